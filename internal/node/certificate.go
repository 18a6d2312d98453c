package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/servercert"
)

// names returns the host names and addresses under which this machine may be
// reached, which the server certificate carries.
func (n *Node) names() (hosts []string, ips []net.IP) {
	domain := n.config.Domain
	hosts = []string{"localhost", domain, "*.messaging." + domain, "*." + domain}
	if host, err := os.Hostname(); err == nil {
		hosts = append(hosts, host)
	}
	ips = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, name := range n.config.Names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			hosts = append(hosts, name)
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, ok := a.(*net.IPNet); ok && !p.IP.IsLinkLocalUnicast() {
				ips = append(ips, p.IP)
			}
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	slices.SortFunc(ips, func(a, b net.IP) int { return slices.Compare(a.To16(), b.To16()) })
	return hosts, slices.CompactFunc(ips, net.IP.Equal)
}

// renewCertificate takes the server certificate that fits the machine's names
// now: the one in use, or a new one.
func (n *Node) renewCertificate(ctx context.Context) error {
	hosts, ips := n.names()
	cert, err := n.ca.ServerCertificate(ctx, hosts, ips)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	n.certificates.SetOwn(&cert)
	return nil
}

// openCertificates opens what is shown beside the certificate of our own
// authority.
func (n *Node) openCertificates(ctx context.Context) (err error) {
	t := n.config.TLS
	c := servercert.Config{CertificateFile: t.Certificate, KeyFile: t.Key, DB: n.db, Ring: n.ring, Log: n.log, Organisations: n.registry.ShownCertificates}
	if a := t.ACME; a.Directory != "" {
		c.ACME = &servercert.ACME{Directory: a.Directory, Names: a.Names, Email: a.Email, KeyID: a.EABKeyID}
		if c.ACME.Roots, err = authorities("tls.acme.ca", a.CA); err != nil {
			return err
		}
		if a.EABKeyFile != "" {
			if c.ACME.Key, err = readSecret("tls.acme.eab_key_file", a.EABKeyFile); err != nil {
				return err
			}
		}
	}
	n.certificates, err = servercert.Open(ctx, c)
	return err
}

// keepCertificate renews the server certificate in time, and when the
// machine's names change, until ctx ends. Connections that are open keep theirs.
// It renews the keys of session tickets too.
func (n *Node) keepCertificate(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := n.renewCertificate(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the server certificate could not be checked; the present one stays in use", "err", err)
			}
			if err := n.renewTickets(ctx, time.Now()); err != nil && ctx.Err() == nil {
				n.log.Error("the keys of session tickets could not be renewed; the present ones stay in use", "err", err)
			}
			if _, err := n.ca.Prune(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the ledger of certificates could not be pruned", "err", err)
			}
		}
	}
}

// tlsConfig is what both ports speak. A client certificate is asked for and,
// if there is one, must be ours.
func (n *Node) tlsConfig(t *tickets, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2: forward secrecy and authenticated encryption only
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: n.certificates.Get,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      n.ca.ClientAuthorities(),
		NextProtos:     protocols,
		WrapSession:    t.wrap,
		UnwrapSession:  t.unwrap,
	}
}
