package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// enrolDevices makes devices in an organisation of their own, each with a
// certificate of KeepMQ's authority.
func enrolDevices(ctx context.Context, b *Broker, n int) ([]login, error) {
	var org struct{ ID string }
	if err := b.api.post(ctx, "/orgs", map[string]string{"name": "bench devices", "profile": "iot-2"}, &org); err != nil {
		return nil, err
	}
	at := "/orgs/" + org.ID
	if err := b.api.post(ctx, at+"/types", map[string]string{"id": "sensor"}, &struct{}{}); err != nil {
		return nil, err
	}
	var all []login
	for i := range n {
		id := fmt.Sprintf("n%d", i)
		var made struct{ Token string }
		if err := b.api.post(ctx, at+"/devices", map[string]string{"type": "sensor", "id": id}, &made); err != nil {
			return nil, err
		}
		if err := b.api.post(ctx, at+"/devices/sensor/"+id+"/enrolments", map[string]int{"ttl_seconds": 600}, &made); err != nil {
			return nil, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return nil, err
		}
		csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		var out struct{ Chain string }
		if err := b.api.post(ctx, "/enrol", map[string]string{"token": made.Token, "csr": csr}, &out); err != nil {
			return nil, err
		}
		cert := tls.Certificate{PrivateKey: key}
		for block, rest := pem.Decode([]byte(out.Chain)); block != nil; block, rest = pem.Decode(rest) {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
		if len(cert.Certificate) == 0 {
			return nil, errors.New("enrolment brought no certificate")
		}
		conf := b.TLS.Clone()
		conf.Certificates = []tls.Certificate{cert}
		all = append(all, login{tls: conf, id: "d:" + org.ID + ":sensor:" + id, clean: true})
	}
	return all, nil
}

// mutualName is the name under which the floor asks for a client certificate, so
// that its other clients are not asked.
const mutualName = "mutual.localhost"

// asking returns conf for clients that come under mutualName, too.
func asking(conf *tls.Config, root *x509.CertPool) *tls.Config {
	other := conf.Clone()
	other.ClientAuth, other.ClientCAs = tls.RequireAndVerifyClientCert, root
	conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == mutualName {
			return other, nil
		}
		return nil, nil
	}
	return conf
}

// signDevices makes client certificates for the floor, with one authority
// between them and the root, as KeepMQ's have.
func (id *identity) signDevices(n int) ([]login, error) {
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	issuer := certificate("bench issuer")
	issuer.IsCA, issuer.BasicConstraintsValid, issuer.KeyUsage, issuer.ExtKeyUsage = true, true, x509.KeyUsageCertSign, usage
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, id.root, issuerKey.Public(), id.rootKey)
	if err != nil {
		return nil, err
	}
	if issuer, err = x509.ParseCertificate(issuerDER); err != nil {
		return nil, err
	}
	var all []login
	for i := range n {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		leaf := certificate(fmt.Sprintf("device-%d", i))
		leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, usage
		der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), issuerKey)
		if err != nil {
			return nil, err
		}
		conf := id.client.Clone()
		conf.ServerName = mutualName
		conf.Certificates = []tls.Certificate{{Certificate: [][]byte{der, issuerDER}, PrivateKey: key}}
		all = append(all, login{tls: conf, id: leaf.Subject.CommonName, clean: true})
	}
	return all, nil
}
