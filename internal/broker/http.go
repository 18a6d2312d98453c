package broker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/secret"
)

// handoff is the listener of the HTTP server: it is given connections that
// turned out to speak HTTP.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) give(nc net.Conn) bool {
	select {
	case h.conns <- nc:
		return true
	case <-h.closed:
		return false
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }

type peerKey struct{}

// peerOf returns the TLS connection that a request came on.
func peerOf(r *http.Request) *peer { return r.Context().Value(peerKey{}).(*peer) }

func (b *Broker) newHTTP() *http.Server {
	mux := http.NewServeMux()
	const at = "/api/v0002/"
	mux.HandleFunc("POST "+at+"device/types/{type}/devices/{device}/events/{name}", b.post("evt", false))
	mux.HandleFunc("POST "+at+"application/types/{type}/devices/{device}/events/{name}", b.post("evt", true))
	mux.HandleFunc("POST "+at+"application/types/{type}/devices/{device}/commands/{name}", b.post("cmd", true))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && (r.URL.Path == "/" || r.URL.Path == "/mqtt") {
			b.upgrade(w, r)
			return
		}
		problem(w, http.StatusNotFound, "there is nothing here: this port serves MQTT, MQTT over WebSocket and messages over HTTP")
	})
	return &http.Server{
		Handler:           b.received(mux),
		ReadHeaderTimeout: b.cfg.ConnectTimeout,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelInfo),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, nc)
		},
	}
}

// received notes that a request has come. Until somebody authenticates on it, a
// connection is for one request.
func (b *Broker) received(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := peerOf(r).guest
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			g.Leave()
			if !g.IsWelcome() {
				w.Header().Set("Connection", "close")
			}
		}
		h.ServeHTTP(w, r)
		g.Leave()
	})
}

// problem answers with a problem of RFC 9457.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// post serves one message over HTTP. It answers 200 when the message is kept.
func (b *Broker) post(kind string, application bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch err := b.postMessage(w, r, kind, application); {
		case err == nil:
			w.WriteHeader(http.StatusOK)
		case errors.As(err, new(*http.MaxBytesError)):
			b.refusedPost(w, r, http.StatusRequestEntityTooLarge, "the message is too large", err)
		case errors.Is(err, engine.ErrQueueFull):
			b.refusedPost(w, r, http.StatusTooManyRequests, "the queue of a receiver is full", err)
		default:
			b.refusedPost(w, r, httpStatus(errs.CodeOf(err)), errs.Message(err), err)
		}
	}
}

func httpStatus(code errs.Code) int {
	switch code {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Denied, errs.NotFound:
		return http.StatusForbidden
	case errs.Conflict:
		return http.StatusConflict
	case errs.Exhausted:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (b *Broker) refusedPost(w http.ResponseWriter, r *http.Request, status int, detail string, err error) {
	b.log.Info("message over HTTP refused", "address", peerOf(r).remote, "code", status, "err", err)
	b.metrics.publishRefused[errs.CodeOf(err)].Add(1)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="KeepMQ", charset="UTF-8"`)
	}
	problem(w, status, detail)
}

func (b *Broker) postMessage(w http.ResponseWriter, r *http.Request, kind string, application bool) error {
	typ, device, name := r.PathValue("type"), r.PathValue("device"), r.PathValue("name")
	if err := errors.Join(auth.CheckName("device type", typ), auth.CheckName("device id", device), auth.CheckName("name", name)); err != nil {
		return err
	}
	format, err := formatOf(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	creds, gateway, err := postCredentials(r, typ, device, application)
	if err != nil {
		return err
	}
	who := creds.ClientID + "\x00" + creds.Username
	if err := peerOf(r).mayTry(r.Context(), who, func(time.Duration) {}); err != nil {
		return err
	}
	seen := b.changes.Load()
	grant, err := b.cfg.Verifier.Verify(r.Context(), creds)
	peerOf(r).judge(who, err)
	if err != nil {
		return err
	}
	w.Header().Del("Connection")
	if org, _, hosted := strings.Cut(r.Host, ".messaging."); hosted && org != string(grant.Principal().Org) {
		return errs.E(errs.Unauthenticated, "the host is that of another organisation")
	}
	topicName := "iot-2/type/" + typ + "/id/" + device + "/" + kind + "/" + name + "/fmt/" + format
	if !application && !gateway {
		topicName = "iot-2/" + kind + "/" + name + "/fmt/" + format
	}
	err = b.postAs(w, r, grant, seen, topicName)
	if l, value, ok := quota.ExceededBy(err); ok && !errors.Is(err, engine.ErrQueueFull) {
		b.notePost(grant, l, value, quota.Refused)
	}
	return err
}

// postAs publishes the message of a client that has authenticated.
func (b *Broker) postAs(w http.ResponseWriter, r *http.Request, grant *auth.Grant, seen uint64, topicName string) error {
	tenant, group := b.tenantOf(grant.Principal())
	limits := b.limitsOf(tenant, group, grant)
	if err := b.slowPost(r, grant, limits); err != nil {
		return err
	}
	if _, err := publishName(grant, limits, topicName); err != nil {
		if grant, err = b.postRegistered(r.Context(), grant, limits, topicName, err); err != nil {
			return err // and its body is not read
		}
	}
	most := limits.Get(quota.ClientPayload)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if errors.As(err, new(*http.MaxBytesError)) {
		b.notePost(grant, quota.ClientPayload, most, quota.Refused)
	}
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "the message cannot be read")
	}
	if err := b.chargePost(r, grant, tenant, group, limits, len(body)); err != nil {
		return err
	}
	// Body and turn may have been long in coming: what the client may do now decides.
	if grant, seen, err = b.present(r.Context(), grant, seen); err != nil {
		return err
	}
	n, err := publishName(grant, b.limitsOf(tenant, group, grant), topicName)
	if err != nil {
		return err
	}
	b.limitOrg(tenant, grant.OrgLimits(b.cfg.Limits), seen)
	b.metrics.in[1].Add(1)
	from := grant.Principal()
	m := &engine.Message{Org: from.Org, Topic: n, Payload: body, QoS: 1, From: from}
	handed, err := b.admit(r.Context(), grant, m)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	b.cfg.Engine.Publish(r.Context(), m, func(err error) { done <- err })
	handed()
	select {
	case err := <-done:
		return err
	case <-r.Context().Done():
		return errs.Wrap(errs.Unavailable, r.Context().Err(), "the message was not kept in time")
	}
}

// present returns the grant that a client without a connection has now, which
// had another when so many changes were seen.
func (b *Broker) present(ctx context.Context, grant *auth.Grant, seen uint64) (*auth.Grant, uint64, error) {
	const attempts = 1000
	for range attempts {
		now := b.changes.Load()
		if end := grant.Ref().Expires; !end.IsZero() && !time.Now().Before(end) {
			return nil, now, errs.E(errs.Unauthenticated, "the credential has expired")
		}
		if now == seen {
			return grant, seen, nil
		}
		seen = now
		var err error
		if grant, err = b.cfg.Verifier.Renew(ctx, grant.Ref()); err != nil {
			return nil, seen, err
		}
	}
	return nil, seen, errs.E(errs.Unavailable, "what the client may do changes too often")
}

// formatOf returns the format of a message by its content type.
func formatOf(contentType string) (string, error) {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/json":
		return "json", nil
	case "text/plain":
		return "text", nil
	case "application/xml", "text/xml":
		return "xml", nil
	case "application/octet-stream":
		return "bin", nil
	}
	return "", errs.E(errs.Invalid, "content type must be application/json, text/plain, application/xml or application/octet-stream")
}

// postCredentials returns the credentials of a request as a CONNECT would
// present them. A device is who the path says, a gateway who its user name
// says, and the organisation comes from the user name or from the host.
func postCredentials(r *http.Request, typ, device string, application bool) (c auth.Credentials, gateway bool, err error) {
	p := peerOf(r)
	user, password, ok := r.BasicAuth()
	if !ok && p.cert == nil {
		return c, false, errs.E(errs.Unauthenticated, "credentials are required")
	}
	c = auth.Credentials{
		HasUsername: ok, Username: user, HasPassword: ok, Password: secret.New(password),
		Certificate: p.cert, ServerName: p.name, Remote: p.remote,
	}
	org, _, hosted := strings.Cut(r.Host, ".messaging.")
	if application {
		parts := strings.Split(user, "-")
		if len(parts) < 3 || parts[0] != "a" {
			return c, false, errs.E(errs.Unauthenticated, "an application's user name is its API key")
		}
		c.ClientID = "a:" + parts[1] + ":http"
		return c, false, nil
	}
	for _, sep := range []string{"/", "-"} {
		parts := strings.SplitN(user, sep, 4)
		if len(parts) == 4 && (parts[0] == "g" || parts[0] == "d") {
			c.ClientID = strings.Join(parts, ":")
			c.Username = "use-token-auth"
			return c, parts[0] == "g", nil
		}
	}
	if !hosted {
		return c, false, errs.E(errs.Unauthenticated, "the host must be {org}.messaging.{domain}, or the user name d/{org}/{type}/{id}")
	}
	c.ClientID = "d:" + org + ":" + typ + ":" + device
	return c, false, nil
}
