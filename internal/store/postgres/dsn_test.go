package postgres_test

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/postgres"
)

func TestDSN(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable") // the environment decides nothing that the URL has to
	const full = "?sslmode=verify-full"
	for dsn, good := range map[string]bool{
		"postgresql://u:hidden@db.example.org/k" + full:                                        true,
		"postgres://u:hidden@/k?host=a.example.org,b.example.org&port=1,2&sslmode=verify-full": true,
		"postgresql://u@/k?host=/run/postgresql":                                               true,
		"postgresql://u@/k?host=/run/postgresql&sslmode=verify-full":                           true,
		"postgresql://u:hidden@db.example.org/k":                                               false,
		"postgresql://u:hidden@db.example.org/k?sslmode=disable":                               false,
		"postgresql://u:hidden@db.example.org/k?sslmode=allow":                                 false,
		"postgresql://u:hidden@db.example.org/k?sslmode=prefer":                                false,
		"postgresql://u:hidden@db.example.org/k?sslmode=require":                               false,
		"postgresql://u:hidden@db.example.org/k?sslmode=verify-ca":                             false,
		"postgresql://u:hidden@db.example.org/k?sslmode=verify-full&sslmode=disable":           false,
		"postgresql://u:hidden@db.example.org/k?SSLMODE=verify-full":                           false,
		"postgresql://u:hidden@localhost/k":                                                    false,
		"postgresql://u:hidden@127.0.0.1/k?sslmode=require":                                    false,
		"postgresql://u:hidden@/k?host=/run/postgresql,db.example.org":                         false,
		"postgresql://u:hidden@/k?host=/run/postgresql&sslmode=disable":                        false,
		"postgresql://u:hidden@db.example.org/k?sslmode=verify-full&sslrootcert=/no/such":      false,
		"postgresql://u:hidden@db.example.org/k?sslmode=verify-full&service=other":             false,
		"host=db.example.org user=u password=hidden dbname=k sslmode=verify-full":              false,
		"mysql://u:hidden@db.example.org/k" + full:                                             false,
		"postgresql://u:hid%zzden@db.example.org/k" + full:                                     false,
		"postgresql://u:hidden@db.example.org:port/k" + full:                                   false,
		"": false,
		"postgresql://u:hidden@db.example.org/k" + full + "&x=" + strings.Repeat("x", 5000): false,
	} {
		c, err := postgres.Parse(secret.New(dsn))
		switch {
		case good && err != nil:
			t.Errorf("%s: %v", dsn, err)
		case !good && err == nil:
			t.Errorf("%.100s was accepted", dsn)
		case !good && (errs.CodeOf(err) != errs.Invalid || strings.Contains(err.Error(), "hid")):
			t.Errorf("%.100s: error %v", dsn, err)
		case good && c.RuntimeParams["search_path"] != "public":
			t.Errorf("%s: the search path is left to others", dsn)
		}
	}
}

// Whatever is read as a URL leads to a server through TLS or a unix socket, and
// no error repeats what was read.
func FuzzDSN(f *testing.F) {
	f.Add("postgresql://u:p@db.example.org/k?sslmode=verify-full")
	f.Add("postgresql://u:p@/k?host=/run/postgresql")
	f.Add("postgresql://u:p@a,b/k?host=/x,c&sslmode=prefer")
	f.Fuzz(func(t *testing.T, dsn string) {
		c, err := postgres.Parse(secret.New(dsn))
		if err != nil {
			if len(dsn) > 40 && strings.Contains(err.Error(), dsn) {
				t.Errorf("the error repeats the URL: %v", err)
			}
			return
		}
		if !strings.HasPrefix(c.Host, "/") && (c.TLSConfig == nil || c.TLSConfig.InsecureSkipVerify || c.TLSConfig.ServerName == "") {
			t.Errorf("%q: without TLS to %s", dsn, c.Host)
		}
		for _, o := range c.Fallbacks {
			if !strings.HasPrefix(o.Host, "/") && (o.TLSConfig == nil || o.TLSConfig.InsecureSkipVerify || o.TLSConfig.ServerName == "") {
				t.Errorf("%q: without TLS to %s", dsn, o.Host)
			}
		}
	})
}
