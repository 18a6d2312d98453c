package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	serverLife  = 90 * 24 * time.Hour
	serverNames = 200 // how many names and addresses a server certificate may have
)

// ServerCertificate returns the server's certificate for these names and
// addresses, with its key and chain. It is the same at every call until its
// names change, two thirds of its life are over, or it was revoked: then there
// is a new one, with a new key.
func (c *CA) ServerCertificate(ctx context.Context, hosts []string, ips []net.IP) (tls.Certificate, error) {
	cert, err := c.serverCertificate(ctx, hosts, ips)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server certificate: %w", err)
	}
	return cert, nil
}

func (c *CA) serverCertificate(ctx context.Context, hosts []string, ips []net.IP) (tls.Certificate, error) {
	hosts, ips, err := cleanNames(hosts, ips)
	if err != nil {
		return tls.Certificate{}, err
	}
	have, err := c.readServer(ctx)
	if err != nil {
		return tls.Certificate{}, err
	}
	if have.Leaf != nil && c.fresh(have.Leaf) && sameNames(have.Leaf, hosts, ips) {
		revoked, err := c.Revoked(ctx, have.Leaf.SerialNumber)
		if err != nil || !revoked {
			return have, err
		}
	}
	return c.issueServer(ctx, hosts, ips)
}

func (c *CA) fresh(leaf *x509.Certificate) bool {
	now := c.clock()
	renew := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
	return !now.Before(leaf.NotBefore) && now.Before(renew)
}

// readServer returns the stored certificate, or none.
func (c *CA) readServer(ctx context.Context) (tls.Certificate, error) {
	var serial string
	var chain, sealed []byte
	err := c.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		const q = `SELECT serial, chain, sealed_key FROM ca_server WHERE id = 1`
		return tx.QueryRowContext(ctx, q).Scan(&serial, &chain, &sealed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return tls.Certificate{}, nil
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	certs, err := x509.ParseCertificates(chain)
	if err != nil || len(certs) < 2 {
		return tls.Certificate{}, errs.Wrap(errs.Unavailable, err, "the stored server certificate is damaged; restore a backup")
	}
	key, err := c.openKey(serial, sealed, certs[0].PublicKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tlsCertificate(certs, key), nil
}

func tlsCertificate(chain []*x509.Certificate, key crypto.Signer) tls.Certificate {
	out := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

func (c *CA) issueServer(ctx context.Context, hosts []string, ips []net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	tbs := &x509.Certificate{
		Subject: pkix.Name{CommonName: "KeepMQ server"}, DNSNames: hosts, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	who := auth.Principal{Kind: auth.System, ID: profileServer}
	var chain []*x509.Certificate
	keep := func(tx *store.Tx, cert *x509.Certificate) error {
		issuer, err := c.byKey(cert.AuthorityKeyId)
		if err != nil {
			return err
		}
		chain = []*x509.Certificate{cert, issuer}
		serial := hexSerial(cert.SerialNumber)
		sealed, err := c.sealKey(serial, key)
		if err != nil {
			return err
		}
		const q = `INSERT INTO ca_server (id, serial, chain, sealed_key) VALUES (1, $1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, chain = excluded.chain, sealed_key = excluded.sealed_key`
		_, err = tx.ExecContext(ctx, q, serial, slices.Concat(cert.Raw, issuer.Raw), sealed)
		return err
	}
	_, err = c.issue(ctx, entry{profile: profileServer, principal: who, tbs: tbs, key: key.Public()}, serverLife, keep,
		audit.Event{Actor: self(), Action: "certificate.sign", Target: profileServer,
			Detail: map[string]any{"names": append(slices.Clone(hosts), ipStrings(ips)...)}})
	if err != nil {
		return tls.Certificate{}, err
	}
	return tlsCertificate(chain, key), nil
}

func (c *CA) byKey(id []byte) (*x509.Certificate, error) {
	for _, a := range c.state.Load().issuing {
		if slices.Equal(a.cert.SubjectKeyId, id) {
			return a.cert, nil
		}
	}
	return nil, errors.New("the issuing authority is not known")
}

// cleanNames checks names and addresses and brings them into one form and order.
func cleanNames(hosts []string, ips []net.IP) ([]string, []net.IP, error) {
	if n := len(hosts) + len(ips); n == 0 || n > serverNames {
		return nil, nil, errs.E(errs.Invalid, "a server certificate needs 1 to %d names and addresses, not %d", serverNames, n)
	}
	var h []string
	for _, name := range hosts {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if !hostName(name) {
			return nil, nil, errs.E(errs.Invalid, "%q is not a host name", name)
		}
		h = append(h, name)
	}
	var a []net.IP
	for _, ip := range ips {
		if ip.To16() == nil {
			return nil, nil, errs.E(errs.Invalid, "an address of the server is not an IP address")
		}
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		a = append(a, ip)
	}
	slices.Sort(h)
	slices.SortFunc(a, func(x, y net.IP) int { return strings.Compare(x.String(), y.String()) })
	return slices.Compact(h), slices.CompactFunc(a, net.IP.Equal), nil
}

// hostName allows a * as the whole first label.
func hostName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, b := range []byte(label) {
			if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}

func sameNames(leaf *x509.Certificate, hosts []string, ips []net.IP) bool {
	return slices.Equal(leaf.DNSNames, hosts) && slices.EqualFunc(leaf.IPAddresses, ips, net.IP.Equal)
}

func ipStrings(ips []net.IP) []string {
	var s []string
	for _, ip := range ips {
		s = append(s, ip.String())
	}
	return s
}
