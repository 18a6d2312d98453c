package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// TestMain runs every test on each of the stores.
func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// A world is a Service with everything real behind it.
type world struct {
	*Service
	dir   string
	admin registry.Actor
	org   auth.OrgID

	mu  sync.Mutex // guards now
	now time.Time
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the state in dir, as a start of the server does.
func (w *world) open(t *testing.T, roots *x509.CertPool) {
	t.Helper()
	db := dbtest.Open(t, w.dir)
	ring, err := keyring.Open(t.Context(), w.dir, db)
	must(t, err)
	authority, err := ca.Open(t.Context(), db, ring)
	must(t, err)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	r := registry.New(registry.Config{DB: db, Ring: ring, Issuer: authority, Log: log})
	guard := webhook.Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	w.Service = New(Config{DB: db, Ring: ring, Registry: r, Webhooks: webhook.New(guard, roots), Log: log, Now: w.time})
}

func newWorld(t *testing.T, roots *x509.CertPool) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: time.Now(), admin: registry.Actor{Principal: auth.Principal{Kind: auth.Person, ID: "tester"}, Admin: true}}
	w.open(t, roots)
	must(t, w.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO person (id, name, admin, created_at) VALUES ('tester', 'Tester', FALSE, 1)`)
		return err
	}))
	w.org = w.newOrg(t)
	return w
}

func (w *world) newOrg(t *testing.T) auth.OrgID {
	t.Helper()
	o, err := w.Registry.CreateOrg(t.Context(), w.admin, registry.Org{Name: "Test", Profile: registry.ProfileIoT2})
	must(t, err)
	return o.ID
}

func (w *world) hook(t *testing.T, url string) (Webhook, secret.String) {
	t.Helper()
	h, s, err := w.CreateWebhook(t.Context(), w.admin, Webhook{Org: w.org, Name: "h", URL: url})
	must(t, err)
	return h, s
}

func (w *world) deliver(t *testing.T) int {
	t.Helper()
	n, err := w.deliverDue(t.Context())
	must(t, err)
	return n
}

func (w *world) deliveries(t *testing.T, hook string) []Delivery {
	t.Helper()
	all, err := w.Deliveries(t.Context(), w.admin, w.org, hook, "", 100)
	must(t, err)
	return all
}

// A receiver is a real HTTPS server on loopback, which can be told to fail.
type receiver struct {
	*httptest.Server
	roots *x509.CertPool

	mu      sync.Mutex // guards the fields below
	status  int
	got     []received
	secrets []secret.String // of these each message must have a signature
	unsaid  int             // messages without
}

type received struct{ id, body string }

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: 200, roots: x509.NewCertPool()}
	r.Server = httptest.NewTLSServer(r)
	r.roots.AddCert(r.Certificate())
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	id, at := req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp")
	signatures := " " + req.Header.Get("webhook-signature") + " "
	for _, s := range r.secrets {
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), "whsec_"))
		m := hmac.New(sha256.New, key)
		io.WriteString(m, id+"."+at+"."+string(body))
		if !strings.Contains(signatures, " v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil))+" ") {
			r.unsaid++
		}
	}
	r.got = append(r.got, received{id, string(body)})
	w.WriteHeader(r.status)
}

func (r *receiver) set(status int, secrets ...secret.String) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.secrets = status, secrets
}

func (r *receiver) messages() ([]received, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...), r.unsaid
}

var sample = Alert{Rule: "takeover", Subject: "client:x", Summary: "Two clients fight."}

func (w *world) raise(t *testing.T) {
	t.Helper()
	a := sample
	a.Org = w.org
	must(t, w.Raise(t.Context(), a))
}

// A receiver fails; the server starts again; the receiver works: the message
// comes with the id it had.
func TestRetriedAcrossRestart(t *testing.T) {
	r := receive(t)
	w := newWorld(t, r.roots)
	h, s := w.hook(t, r.URL)
	r.set(503, s)
	w.raise(t)
	if n := w.deliver(t); n != 1 {
		t.Fatalf("%d attempts", n)
	}
	d := w.deliveries(t, h.ID)[0]
	if d.State != Waiting || d.Attempts != 1 || !strings.Contains(d.Error, "503") || !d.Next.After(w.time()) {
		t.Fatalf("after a failure: %+v", d)
	}
	if n := w.deliver(t); n != 0 {
		t.Error("it is tried again without a pause")
	}
	w.open(t, r.roots) // the server starts again, in the middle
	r.set(204, s)
	w.move(time.Minute)
	if n := w.deliver(t); n != 1 {
		t.Fatalf("%d attempts after the restart", n)
	}
	d = w.deliveries(t, h.ID)[0]
	got, unsigned := r.messages()
	if d.State != Delivered || d.Attempts != 2 || d.Error != "" || len(got) != 2 || got[0] != got[1] || got[0].id != d.ID || unsigned != 0 {
		t.Fatalf("%+v, received %v, %d without signature", d, got, unsigned)
	}
	var p struct {
		Type string
		Data struct{ Org, Rule, Subject string }
	}
	must(t, json.Unmarshal([]byte(got[0].body), &p))
	if p.Type != "alert.opened" || p.Data.Org != string(w.org) || p.Data.Rule != sample.Rule || p.Data.Subject != sample.Subject {
		t.Errorf("sent %s", got[0].body)
	}
}

func TestGivesUpAfterThreeDays(t *testing.T) {
	r := receive(t)
	w := newWorld(t, r.roots)
	h, _ := w.hook(t, r.URL)
	r.set(500)
	w.raise(t)
	start := w.time()
	for range 100 {
		w.deliver(t)
		d := w.deliveries(t, h.ID)[0]
		if d.State == Failed {
			if took := w.time().Sub(start); took < 60*time.Hour || took > 84*time.Hour || d.Attempts != 11 {
				t.Errorf("given up after %v and %d attempts", took, d.Attempts)
			}
			w.move(1000 * time.Hour)
			if w.deliver(t) != 0 {
				t.Error("tried again after it was given up")
			}
			return
		}
		w.move(d.Next.Sub(w.time()) + time.Second)
	}
	t.Error("never given up")
}

func TestSameAlertIsCounted(t *testing.T) {
	r := receive(t)
	w := newWorld(t, r.roots)
	h, _ := w.hook(t, r.URL)
	for range 5 {
		w.raise(t)
	}
	all, err := w.Alerts(t.Context(), w.admin, w.org, "", "", 10)
	must(t, err)
	if len(all) != 1 || all[0].Count != 5 || len(w.deliveries(t, h.ID)) != 1 {
		t.Fatalf("alerts %+v", all)
	}
	w.move(Window + time.Second)
	w.raise(t)
	if all, _ = w.Alerts(t.Context(), w.admin, w.org, "", "", 10); len(all) != 2 || len(w.deliveries(t, h.ID)) != 2 {
		t.Errorf("after the window: %+v", all)
	}
	if _, err := w.SetState(t.Context(), w.admin, w.org, all[0].ID, Resolved); err != nil {
		t.Fatal(err)
	}
	w.raise(t)
	if all, _ = w.Alerts(t.Context(), w.admin, w.org, Open, "", 10); len(all) != 2 {
		t.Errorf("after it was resolved: %+v", all)
	}
}

func TestRotation(t *testing.T) {
	r := receive(t)
	w := newWorld(t, r.roots)
	h, old := w.hook(t, r.URL)
	fresh, err := w.RotateSecret(t.Context(), w.admin, w.org, h.ID)
	must(t, err)
	send := func() {
		_, err := w.Test(t.Context(), w.admin, w.org, h.ID)
		must(t, err)
		w.deliver(t)
	}
	r.set(200, old, fresh)
	send()
	if got, unsigned := r.messages(); len(got) != 1 || unsigned != 0 {
		t.Fatalf("both secrets: %d messages, %d signatures are missing", len(got), unsigned)
	}
	w.move(formerLife + time.Second)
	send()
	if got, unsigned := r.messages(); len(got) != 2 || unsigned != 1 {
		t.Errorf("after a day: %d messages, %d signatures are missing", len(got), unsigned)
	}
	var stored []byte
	must(t, w.DB.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT secret FROM webhook`).Scan(&stored)
	}))
	if strings.Contains(string(stored), "whsec_") {
		t.Error("the secret is stored in clear")
	}
}

// One organisation sees and moves nothing of another's, and whoever may not
// change alerts does not.
func TestOrganisationsStayApart(t *testing.T) {
	r := receive(t)
	w := newWorld(t, r.roots)
	h, _ := w.hook(t, r.URL)
	w.raise(t)
	mine, err := w.Alerts(t.Context(), w.admin, w.org, "", "", 10)
	must(t, err)
	other := w.newOrg(t)
	stranger := registry.Actor{Principal: auth.Principal{Kind: auth.Application, Org: other, ID: "a-" + string(other) + "-x"}}
	_, errA := w.Alerts(t.Context(), stranger, w.org, "", "", 10)
	_, errB := w.AllWebhooks(t.Context(), stranger, w.org)
	_, errC := w.Deliveries(t.Context(), w.admin, other, h.ID, "", 10)
	_, errD := w.SetState(t.Context(), w.admin, other, mine[0].ID, Resolved)
	_, errE := w.RotateSecret(t.Context(), w.admin, other, h.ID)
	_, errF := w.Test(t.Context(), stranger, w.org, h.ID)
	_, errG := w.UpdateWebhook(t.Context(), w.admin, other, h.ID, WebhookChange{})
	for i, err := range []error{errA, errB, errC, errD, errE, errF, errG, w.DeleteWebhook(t.Context(), w.admin, other, h.ID),
		w.SetEmails(t.Context(), stranger, w.org, nil)} {
		if errs.CodeOf(err) != errs.NotFound || err == nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	// What waits of one organisation does not keep another's from its turn.
	for range 3 * perOrg {
		_, err := w.Test(t.Context(), w.admin, w.org, h.ID)
		must(t, err)
	}
	if n := w.deliver(t); n != perOrg {
		t.Errorf("%d of one organisation at one time", n)
	}
	must(t, w.Registry.DeleteOrg(context.WithoutCancel(t.Context()), w.admin, w.org))
	if n := w.deliver(t); n != 0 {
		t.Errorf("%d attempts for an organisation that is gone", n)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, nil)
	for _, url := range []string{"http://example.com/", "https://10.0.0.1/", "https://[::1]:8443/", "https://u:p@example.com"} {
		if _, _, err := w.CreateWebhook(t.Context(), w.admin, Webhook{Org: w.org, Name: "h", URL: url}); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%s: %v", url, err)
		}
	}
	for range maxWebhooks {
		w.hook(t, "https://example.com/")
	}
	if _, _, err := w.CreateWebhook(t.Context(), w.admin, Webhook{Org: w.org, Name: "h", URL: "https://example.com/"}); errs.CodeOf(err) != errs.Exhausted {
		t.Errorf("one too many: %v", err)
	}
	if err := w.SetEmails(t.Context(), w.admin, w.org, []string{"a@example.com", "A <b@example.com>"}); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a bad address: %v", err)
	}
}

// A person signs in from somewhere else, and a client is refused again and again:
// both become alerts of the organisation, and of no other.
func TestFactsBecomeAlerts(t *testing.T) {
	w := newWorld(t, nil)
	other := w.newOrg(t)
	var told []registry.Session
	r := registry.New(registry.Config{DB: w.DB, Ring: w.Ring, Log: w.Log, Refused: w.NoteRefusal,
		SignedIn: func(s registry.Session, before []registry.Session) { told = append(told, s); w.NoteSession(s, before) }})
	must(t, w.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM member WHERE org = $1`, other)
		return err
	}))
	for _, from := range []string{"192.0.2.1", "192.0.2.2", "198.51.100.9"} {
		code, err := r.NewAccessCode(t.Context(), w.admin)
		must(t, err)
		_, _, err = r.SignIn(t.Context(), code, from, "keepmq-cli")
		must(t, err)
	}
	for range 25 {
		r.NoteRefusal(registry.NotedRefusal{Org: w.org, Class: registry.RefusedCredential, Who: "device:t:d", Address: "203.0.113.5"})
		r.NoteRefusal(registry.NotedRefusal{Org: "zzzzzz", Class: registry.RefusedCredential, Who: "device:t:d", Address: "203.0.113.5"})
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		w.Watch(ctx, func() iter.Seq2[auth.Principal, int64] { return func(func(auth.Principal, int64) bool) {} })
	})
	rules := map[string]string{}
	for range 500 {
		all, err := w.Alerts(t.Context(), w.admin, w.org, Open, "", 100)
		must(t, err)
		for _, a := range all {
			rules[a.Rule] = a.Subject
		}
		if len(rules) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	running.Wait()
	if rules["signin.network"] != "person:tester" || rules["connect.refused"] != "address:203.0.113.5" || len(rules) != 2 || len(told) != 3 {
		t.Errorf("alerts %v after %d sign-ins", rules, len(told))
	}
	if all, err := w.Alerts(t.Context(), w.admin, other, "", "", 100); err == nil && len(all) != 0 {
		t.Errorf("another organisation has %+v", all)
	}
}
