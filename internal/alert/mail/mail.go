// Package mail sends alerts by e-mail.
//
// It promises that nothing, a password least of all, goes over a connection that
// is not TLS with a certificate that is trusted for the server's name. It keeps
// nothing and retries nothing.
package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/mail"
	"strconv"
	text "text/template"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// Timeout bounds the sending of one e-mail.
const Timeout = 30 * time.Second

// A Config says through whom e-mails are sent.
type Config struct {
	Server   string // host:port
	Implicit bool   // TLS from the first byte; else STARTTLS, without which nothing is sent
	Username string // empty: the server asks for none
	Password secret.String
	From     string
	Roots    *x509.CertPool // nil: the system's
}

// A Sender sends. It may be used from any goroutine.
type Sender struct {
	config Config
	host   string
	port   int
}

// New returns a Sender.
func New(c Config) (*Sender, error) {
	host, p, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("mail server: %w", err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		return nil, fmt.Errorf("mail server: port %q is no number", p)
	}
	if err := CheckAddress(c.From); err != nil {
		return nil, fmt.Errorf("mail sender: %w", err)
	}
	return &Sender{config: c, host: host, port: port}, nil
}

// CheckAddress checks an e-mail address: nothing but that, with no name.
func CheckAddress(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 {
		return errs.E(errs.Invalid, "an e-mail address must be as name@example.com, with at most 254 characters")
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return errs.E(errs.Invalid, "an e-mail address must be ASCII without spaces")
		}
	}
	return nil
}

// A Message is one alert, as a person reads it.
type Message struct {
	ID      string // the same in every attempt
	Org     string
	OrgName string
	Rule    string
	Subject string // whom or what it is about
	Summary string
	At      time.Time
}

//go:embed alert.html
var htmlText string

//go:embed alert.txt
var plainText string

var (
	htmlPage  = template.Must(template.New("html").Parse(htmlText))
	plainPage = text.Must(text.New("text").Parse(plainText))
)

// Send makes one attempt to send m to one address.
func (s *Sender) Send(ctx context.Context, to string, m Message) error {
	var html, plain bytes.Buffer
	if err := htmlPage.Execute(&html, m); err != nil {
		return fmt.Errorf("write e-mail: %w", err)
	}
	if err := plainPage.Execute(&plain, m); err != nil {
		return fmt.Errorf("write e-mail: %w", err)
	}
	msg := gomail.NewMsg()
	if err := msg.From(s.config.From); err != nil {
		return fmt.Errorf("write e-mail: %w", err)
	}
	if err := msg.To(to); err != nil {
		return errs.Wrap(errs.Invalid, err, "the address cannot be used")
	}
	msg.Subject("KeepMQ alert: " + m.Rule + " in " + m.OrgName)
	msg.SetDateWithValue(m.At)
	msg.SetMessageIDWithValue(m.ID + "@keepmq.invalid")
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, plain.String())
	msg.AddAlternativeString(gomail.TypeTextHTML, html.String())

	var conn net.Conn // closed here: the client leaves it open where there is no TLS
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.host, RootCAs: s.config.Roots}
	opts := []gomail.Option{
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			if s.config.Implicit {
				conn, err = (&tls.Dialer{Config: secure}).DialContext(ctx, network, address)
			} else {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
			}
			return conn, err
		}),
		gomail.WithPort(s.port), gomail.WithTimeout(Timeout), gomail.WithTLSPolicy(gomail.TLSMandatory),
		gomail.WithTLSConfig(secure),
	}
	if s.config.Implicit {
		opts = append(opts, gomail.WithSSL())
	}
	if s.config.Username != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthPlain), gomail.WithUsername(s.config.Username), gomail.WithPassword(s.config.Password.Reveal()))
	}
	client, err := gomail.NewClient(s.host, opts...)
	if err != nil {
		return fmt.Errorf("mail client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the mail server did not take the e-mail")
	}
	return nil
}
