package config

import (
	"net"
	"net/mail"
	"net/netip"
)

// Alerts configures how people are told of what is unusual.
type Alerts struct {
	// Recipients get the alerts of all organisations by e-mail.
	Recipients []string `yaml:"recipients"`
	Mail       Mail     `yaml:"mail"`
	// WebhookAllow are ranges (CIDR) of addresses outside the public internet that
	// webhooks may be at. Every organisation may then send requests into them.
	WebhookAllow []string `yaml:"webhook_allow"`
	// WebhookCA is a PEM file with the authorities that are trusted for webhooks,
	// instead of the system's.
	WebhookCA string `yaml:"webhook_ca"`
}

// Mail configures through which server e-mails are sent; without one, none are.
type Mail struct {
	Server       string `yaml:"server"` // host:port
	TLS          string `yaml:"tls"`    // starttls, or implicit: from the first byte
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	From         string `yaml:"from"`
	CA           string `yaml:"ca"` // PEM file with its authorities, instead of the system's
}

// validate reports every mistake in a to fail.
func (a Alerts) validate(fail func(format string, args ...any)) {
	email := func(key, s string) {
		if p, err := mail.ParseAddress(s); err != nil || p.Address != s {
			fail("%s: %q is not an e-mail address", key, s)
		}
	}
	for _, s := range a.Recipients {
		email("alerts.recipients", s)
	}
	for _, s := range a.WebhookAllow {
		if _, err := netip.ParsePrefix(s); err != nil {
			fail("alerts.webhook_allow: %q is not a range as 10.1.0.0/16", s)
		}
	}
	if a.Mail.TLS != "starttls" && a.Mail.TLS != "implicit" {
		fail("alerts.mail.tls: %q is neither starttls nor implicit", a.Mail.TLS)
	}
	if a.Mail.Server == "" {
		if len(a.Recipients) > 0 {
			fail("alerts.recipients: needs alerts.mail.server")
		}
		return
	}
	if host, port, err := net.SplitHostPort(a.Mail.Server); err != nil || host == "" || port == "" {
		fail("alerts.mail.server: %q is not host:port", a.Mail.Server)
	}
	email("alerts.mail.from", a.Mail.From)
}
