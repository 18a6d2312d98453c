package postgres_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
)

// A server is spoken to over a network only if its certificate is of an authority
// that the URL names, and for the name in the URL.
func TestTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil { // for the server, which comes soon
		t.Fatal(err)
	}
	s := pgtest.StartTLS(t, port)
	at := func(host, password string, q url.Values) postgres.Config {
		u := url.URL{Scheme: "postgresql", User: url.UserPassword(pgtest.Role, password), Host: fmt.Sprintf("%s:%d", host, s.Port), Path: "/postgres", RawQuery: q.Encode()}
		return postgres.Config{DSN: secret.New(u.String())}
	}
	full := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CAFile}}
	if err := postgres.Check(t.Context(), at("localhost", pgtest.Password, full)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, tc := range map[string]struct {
		config postgres.Config
		code   errs.Code
	}{
		"another name":      {at("127.0.0.1", pgtest.Password, full), errs.Unavailable},
		"another authority": {at("localhost", pgtest.Password, url.Values{"sslmode": {"verify-full"}}), errs.Unavailable},
		"wrong password":    {at("localhost", "hiddenword", full), errs.Unavailable},
		"require":           {at("localhost", pgtest.Password, url.Values{"sslmode": {"require"}, "sslrootcert": {s.CAFile}}), errs.Invalid},
		"no TLS":            {at("localhost", pgtest.Password, url.Values{"sslmode": {"disable"}}), errs.Invalid},
		"nothing said":      {at("localhost", pgtest.Password, nil), errs.Invalid},
	} {
		err := postgres.Check(t.Context(), tc.config)
		if err == nil || errs.CodeOf(err) != tc.code || errs.Message(err) == "" {
			t.Errorf("%s: %v, want code %d", name, err, tc.code)
		}
		if err != nil && (strings.Contains(err.Error(), "hiddenword") || strings.Contains(err.Error(), pgtest.Password)) {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
}
