package node

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"

	"github.com/keepmq/keepmq/internal/alert"
	"github.com/keepmq/keepmq/internal/alert/mail"
	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/broker"
	"github.com/keepmq/keepmq/internal/oidc"
)

// openAlerts builds what tells people of what is unusual.
func (n *Node) openAlerts() error {
	c := n.config.Alerts
	guard, err := guardOf("alerts.webhook_allow", c.WebhookAllow)
	if err != nil {
		return err
	}
	roots, err := authorities("alerts.webhook_ca", c.WebhookCA)
	if err != nil {
		return err
	}
	a := alert.Config{DB: n.db, Ring: n.ring, Registry: n.registry, Webhooks: webhook.New(guard, roots), Recipients: c.Recipients, Log: n.log}
	if m := c.Mail; m.Server != "" {
		x := mail.Config{Server: m.Server, Implicit: m.TLS == "implicit", Username: m.Username, From: m.From}
		if x.Roots, err = authorities("alerts.mail.ca", m.CA); err != nil {
			return err
		}
		if m.PasswordFile != "" {
			if x.Password, err = readSecret("alerts.mail.password_file", m.PasswordFile); err != nil {
				return err
			}
		}
		if a.Mail, err = mail.New(x); err != nil {
			return err
		}
	}
	n.alerts = alert.New(a)
	return nil
}

// guardOf returns the guard that lets requests through to ranges, too, which key
// names.
func guardOf(key string, ranges []string) (g webhook.Guard, err error) {
	for i, s := range ranges {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return g, fmt.Errorf("%s[%d]: %w", key, i, err)
		}
		g.Allowed = append(g.Allowed, p)
	}
	return g, nil
}

// signInClient returns what speaks to the sign-in providers of organisations.
func (n *Node) signInClient() (*oidc.Client, error) {
	guard, err := guardOf("sign_in.provider_allow", n.config.SignIn.ProviderAllow)
	if err != nil {
		return nil, err
	}
	roots, err := authorities("sign_in.provider_ca", n.config.SignIn.ProviderCA)
	if err != nil {
		return nil, err
	}
	return oidc.New(webhook.HTTP(guard, roots)), nil
}

// noteConnect has it looked at that a client connected.
func (n *Node) noteConnect(c broker.Connect) {
	f := alert.Fact{Kind: alert.Connected, Org: c.Who.Org, Who: c.Who.Kind.String() + ":" + c.Who.ID, Client: c.Client, Address: c.Address}
	if c.Takeover {
		f.Kind = alert.TakenOver
	}
	n.alerts.Note(f)
}

// authorities reads a PEM file; without one, the system's hold.
func authorities(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: %s has no certificate in it", key, file)
	}
	return pool, nil
}
