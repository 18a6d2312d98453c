package postgres

import (
	"crypto/tls"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

const (
	maxDSN         = 4096
	connectTimeout = 10 * time.Second
)

// parse reads a database URL. Its errors never repeat the URL, which may hold a
// password: neither the cause of one nor its message may have it.
func parse(dsn secret.String) (*pgx.ConnConfig, error) {
	text := strings.TrimSpace(dsn.Reveal())
	if text == "" || len(text) > maxDSN {
		return nil, errs.E(errs.Invalid, "the database URL must have 1 to %d bytes", maxDSN)
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errs.E(errs.Invalid, "the database URL must be like postgresql://keepmq:password@db.example.org/keepmq?sslmode=verify-full")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errs.E(errs.Invalid, "the database URL has a malformed query")
	}
	for key := range q {
		if key == "service" || key == "servicefile" || key == "default_query_exec_mode" {
			return nil, errs.E(errs.Invalid, "the database URL must not have %s", key)
		}
	}
	mode := q.Get("sslmode")
	if len(q["sslmode"]) > 1 || (mode != "" && mode != "verify-full") {
		return nil, errs.E(errs.Invalid, "the database URL must have sslmode=verify-full: nothing weaker is used")
	}
	c, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errs.E(errs.Invalid, "the database URL cannot be used: check its parts, and that the files it names can be read")
	}
	if c.User == "" || c.Database == "" {
		return nil, errs.E(errs.Invalid, "the database URL must name a user and a database")
	}
	if err := requireTLS(&c.Config, mode); err != nil {
		return nil, err
	}
	settle(c)
	return c, nil
}

// requireTLS refuses every server that would be spoken to over a network without
// TLS, or without a proof of its name.
func requireTLS(c *pgconn.Config, mode string) error {
	secure := func(host string, t *tls.Config) bool {
		if strings.HasPrefix(host, "/") {
			return true // a unix socket
		}
		if mode != "verify-full" || t == nil || t.ServerName == "" {
			return false
		}
		t.MinVersion = tls.VersionTLS12
		return true
	}
	ok := secure(c.Host, c.TLSConfig)
	for _, f := range c.Fallbacks {
		ok = secure(f.Host, f.TLSConfig) && ok
	}
	if !ok {
		return errs.E(errs.Invalid, "the database URL must have sslmode=verify-full, unless its host is the folder of a unix socket: without TLS nothing is sent")
	}
	return nil
}

// settle sets what every connection needs. A server that only reads, such as a
// replica, is none.
func settle(c *pgx.ConnConfig) {
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	for key, value := range map[string]string{
		"application_name":                    "keepmq",
		"search_path":                         "public",
		"lock_timeout":                        "20s",
		"idle_in_transaction_session_timeout": "60s",
		// Every query that pages is in the order of an index. Where the server knows
		// little of a table, as after many rows have come at once, or reckons with
		// row-level security leaving few, it would read all rows and sort them.
		"enable_seqscan":    "off",
		"enable_bitmapscan": "off",
		"enable_sort":       "off",
		// So that the server notices soon when this machine is gone.
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "3",
	} {
		c.RuntimeParams[key] = value
	}
}

// parseOwner reads the URL of the role that owns the schema, which must lead to
// the same database by another role.
func parseOwner(dsn secret.String, app *pgx.ConnConfig) (*pgx.ConnConfig, error) {
	owner, err := parse(dsn)
	switch {
	case err != nil:
		return nil, err
	case owner.User == app.User:
		return nil, errs.E(errs.Invalid, "the owner of the schema and the user of the database must be different roles")
	case owner.Database != app.Database:
		return nil, errs.E(errs.Invalid, "the owner's URL names another database")
	}
	owner.RuntimeParams["keepmq.org"] = everything // its own tables are protected from it too
	return owner, nil
}
