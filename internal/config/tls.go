package config

import (
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// TLS configures server certificates beside the one of KeepMQ's own authority,
// which is shown for every name that no other is for.
type TLS struct {
	// Certificate and Key are PEM files: the chain, the server's own certificate
	// first, and its key. Changed files are taken into use without a restart.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ACME        ACME   `yaml:"acme"`
}

// ACME configures from which authority certificates are got by themselves (RFC
// 8555). It reaches https.listen at port 443 of each name, itself or through
// what forwards that port (RFC 8737).
type ACME struct {
	Directory   string   `yaml:"directory"`    // the URL of its directory; empty: none
	AcceptTerms bool     `yaml:"accept_terms"` // that its terms of service are agreed to
	Names       []string `yaml:"names"`
	Email       string   `yaml:"email"`        // for its notices
	CA          string   `yaml:"ca"`           // PEM file with who signed its own certificate, instead of the system's
	EABKeyID    string   `yaml:"eab_key_id"`   // of an account there that this one is bound to
	EABKeyFile  string   `yaml:"eab_key_file"` // a file that only its owner can read, with the key in base64url
}

// maxACMENames is for how many names certificates are got.
const maxACMENames = 100

// validate reports every mistake in t to fail.
func (t TLS) validate(fail func(format string, args ...any)) {
	if (t.Certificate == "") != (t.Key == "") {
		fail("tls.key: tls.certificate and tls.key belong together")
	}
	a := t.ACME
	if a.Directory == "" {
		if len(a.Names) > 0 || a.AcceptTerms || a.Email != "" || a.CA != "" || a.EABKeyID != "" || a.EABKeyFile != "" {
			fail("tls.acme.directory: must be the URL of the authority's directory")
		}
		return
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		fail("tls.acme.directory: %q is not a URL that begins with https://", a.Directory)
	}
	if !a.AcceptTerms {
		fail("tls.acme.accept_terms: read the authority's terms of service, and say true if you agree")
	}
	if len(a.Names) == 0 || len(a.Names) > maxACMENames {
		fail("tls.acme.names: must be 1 to %d host names, are %d", maxACMENames, len(a.Names))
	}
	for i, n := range a.Names {
		labels := strings.Split(n, ".")
		switch {
		case !hostName(n) || n != strings.ToLower(n) || len(labels) < 2 || strings.Trim(labels[len(labels)-1], "0123456789") == "":
			fail("tls.acme.names[%d]: %q is not a host name in small letters; for wildcards and addresses none can be got", i, n)
		case slices.Contains(a.Names[:i], n):
			fail("tls.acme.names[%d]: %q is there twice", i, n)
		}
	}
	if p, err := mail.ParseAddress(a.Email); a.Email != "" && (err != nil || p.Address != a.Email) {
		fail("tls.acme.email: %q is not an e-mail address", a.Email)
	}
	if (a.EABKeyID == "") != (a.EABKeyFile == "") {
		fail("tls.acme.eab_key_file: eab_key_id and eab_key_file belong together")
	}
}
