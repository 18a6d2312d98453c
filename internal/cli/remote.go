package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

const (
	maxAnswer = 64 << 20 // bytes of an answer
	answerIn  = 60 * time.Second
)

// A remote is a server, and who asks it.
type remote struct {
	server string // https://host:port
	broker string // host:port
	tls    *tls.Config
	http   *http.Client
	key    string        // an API key, or "" for a person
	token  secret.String // of the key, or of the person
	org    string        // the default
	ca     []byte        // PEM; empty: the system's authorities
}

// remote returns the server that the flags, the environment and the sign-in name.
func (e *env) remote() (*remote, error) {
	s, err := e.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r := &remote{server: s.Server, broker: s.Broker, token: secret.New(s.Token), org: s.Org}
	ca := []byte(s.CA)
	if other := first(e.server, e.getenv("KEEPMQ_SERVER")); other != "" {
		if other, err = address(other); err != nil {
			return nil, err
		}
		if other != s.Server {
			// Neither a token nor trust goes to another server than it is for.
			r, ca = &remote{server: other}, nil
		}
	}
	if name := first(e.ca, e.getenv("KEEPMQ_CA")); name != "" {
		if ca, err = os.ReadFile(name); err != nil {
			return nil, hint("give the server's CA file with --ca", "read the CA file: %w", err)
		}
	}
	if e.key != "" {
		r.key = e.key
		if r.token, err = e.secret(e.tokenStdin, "KEEPMQ_TOKEN", "token of the API key"); err != nil {
			return nil, err
		}
		r.org = keyOrg(e.key)
	}
	if r.server == "" {
		return nil, hint(signInAgain, "you are not signed in to a server")
	}
	return r, r.prepare(ca)
}

// keyOrg returns the organisation that an API key belongs to: "a-{org}-…".
func keyOrg(key string) string {
	rest, ok := strings.CutPrefix(key, "a-")
	org, _, more := strings.Cut(rest, "-")
	if !ok || !more {
		return ""
	}
	return org
}

// address returns the one way in which the address of a server is written.
func address(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", hint("give it as https://host:port", "the server's address %q is not valid", s)
	}
	return "https://" + net.JoinHostPort(strings.ToLower(u.Hostname()), first(u.Port(), "8443")), nil
}

// prepare makes ready what a connection needs.
func (r *remote) prepare(ca []byte) error {
	if r.broker == "" {
		host, _, err := net.SplitHostPort(strings.TrimPrefix(r.server, "https://"))
		if err != nil {
			return hint(signInAgain, "the saved address %q of the server is damaged", r.server)
		}
		r.broker = net.JoinHostPort(host, "8883")
	}
	r.ca = ca
	r.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		r.tls.RootCAs = x509.NewCertPool()
		if !r.tls.RootCAs.AppendCertsFromPEM(ca) {
			return hint("give the server's CA file with --ca", "the CA file has no certificate in it")
		}
	}
	r.http = &http.Client{
		Timeout:       answerIn,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{TLSClientConfig: r.tls.Clone(), Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
	}
	return nil
}

// call asks the API. A nil in has no body; out gets the answer, raw when it is
// *[]byte, and may be nil.
func (r *remote) call(ctx context.Context, method, path string, in, out any) error {
	if err := r.signedIn(); err != nil {
		return err
	}
	return r.open(ctx, method, path, in, out)
}

func (r *remote) signedIn() error {
	if r.key == "" && r.token.Reveal() == "" {
		return hint(signInAgain, "you are not signed in to %s", r.server)
	}
	return nil
}

// request makes a request of whoever is signed in.
func (r *remote) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.server+"/api/v1"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", "keepmq-cli/"+version())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch {
	case r.key != "":
		req.SetBasicAuth(r.key, r.token.Reveal())
	case r.token.Reveal() != "":
		req.Header.Set("Authorization", "Bearer "+r.token.Reveal())
	}
	return req, nil
}

// open asks the API, also without being signed in.
func (r *remote) open(ctx context.Context, method, path string, in, out any) error {
	var send io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		send = bytes.NewReader(b)
	}
	req, err := r.request(ctx, method, path, send)
	if err != nil {
		return err
	}
	res, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.server, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", r.server, err)
	case len(b) > maxAnswer:
		return fmt.Errorf("the answer of %s is larger than %d MiB", r.server, maxAnswer>>20)
	case res.StatusCode >= 300:
		return refusal(r.server, res, b)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = b
	default:
		if err := json.Unmarshal(b, out); err != nil {
			return hint("is it a KeepMQ server, and as new as this command?", "the answer of %s is not understood: %v", r.server, err)
		}
	}
	return nil
}

// refusal reads a problem document.
func refusal(server string, res *http.Response, b []byte) error {
	var p struct {
		Detail, Instance string
		Errors           []struct{ Message, Location string }
	}
	if json.Unmarshal(b, &p) != nil || p.Detail == "" {
		return hint("is it a KeepMQ server? The API is on port 8443", "%s answered %s", server, res.Status)
	}
	message := p.Detail
	for i, e := range p.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		message += sep + strings.TrimPrefix(strings.TrimPrefix(e.Location, "body."), "path.") + ": " + e.Message
	}
	return &remoteError{status: res.StatusCode, message: printable(message), instance: printable(p.Instance)}
}

// first returns the first of s that is not empty.
func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
