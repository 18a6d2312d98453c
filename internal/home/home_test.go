package home_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/home"
	"github.com/keepmq/keepmq/internal/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	org      auth.OrgID = "house1"
	patience            = 20 * time.Second
)

// seal seals with a key that follows from the organisation.
type seal struct{ cipher.AEAD }

func (s seal) Seal(dst, plain, additional []byte) []byte {
	return s.AEAD.Seal(dst, nil, plain, additional)
}

func (s seal) Open(dst, sealed, additional []byte) ([]byte, error) {
	return s.AEAD.Open(dst, nil, sealed, additional)
}

func sealer(_ context.Context, org auth.OrgID) (embedded.Sealer, error) {
	key := sha256.Sum256([]byte(org))
	b, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	g, err := cipher.NewGCMWithRandomNonce(b)
	return seal{g}, err
}

// A house is a Keeper over an engine in a folder.
type house struct {
	t      *testing.T
	dir    string
	engine *embedded.Engine
	keeper *home.Keeper
	stop   func()

	mu    sync.Mutex // guards the fields below
	orgs  []auth.OrgID
	err   error
	asked int // for the organisations
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, dir: t.TempDir(), orgs: []auth.OrgID{org}}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.engine, err = embedded.Open(context.Background(), embedded.Options{Dir: h.dir, Log: slog.New(slog.DiscardHandler), Sealer: sealer}); err != nil {
		h.t.Fatal(err)
	}
	h.keeper = home.New(home.Config{Engine: h.engine, Log: slog.New(slog.DiscardHandler), Orgs: h.homes})
}

func (h *house) homes(context.Context) ([]auth.OrgID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	return h.orgs, h.err
}

// run starts the janitor.
func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.keeper.Run(ctx) })
	h.stop = func() {
		cancel()
		wg.Wait()
	}
}

func (h *house) close() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
	if err := h.engine.Close(); err != nil {
		h.t.Error(err)
	}
}

func name(t testing.TB, s string) topic.Name {
	t.Helper()
	n, err := topic.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message is one that somebody publishes: "ann" is a user, "app" an application.
func message(t testing.TB, who, topicName, payload string) *engine.Message {
	p := auth.Principal{Org: org, Kind: auth.User, ID: who}
	if who == "app" {
		p.Kind = auth.Application
	}
	return &engine.Message{Org: org, Topic: name(t, topicName), Payload: []byte(payload), QoS: 1, Retain: true, From: p}
}

// publish does what the broker does with a message on a guarded topic.
func (h *house) publish(who, topicName, payload string) error {
	h.t.Helper()
	m := message(h.t, who, topicName, payload)
	checked := h.keeper.Check(h.t.Context(), m)
	err := h.admit(m)
	if (err == nil) != (checked == nil) {
		h.t.Fatalf("%s: checked %v, admitted %v", topicName, checked, err)
	}
	if err != nil && (errs.CodeOf(err) != errs.Denied || errs.Message(err) == "") {
		h.t.Fatalf("%s: %v is not a refusal", topicName, err)
	}
	return err
}

func (h *house) admit(m *engine.Message) error {
	handed, err := h.keeper.Admit(h.t.Context(), m)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	h.engine.Publish(h.t.Context(), m, func(err error) { done <- err })
	handed()
	return <-done
}

// keep publishes what need not be looked at.
func (h *house) keep(topicName, payload string) {
	h.t.Helper()
	done := make(chan error, 1)
	h.engine.Publish(h.t.Context(), message(h.t, "ann", topicName, payload), func(err error) { done <- err })
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// state returns what is retained on a topic, "-" if nothing is.
func (h *house) state(topicName string) string {
	h.t.Helper()
	f, err := topic.ParseFilter(topicName)
	if err != nil {
		h.t.Fatal(err)
	}
	got := "-"
	for m, err := range h.engine.Retained(context.Background(), org, f) {
		if err != nil {
			h.t.Fatal(err)
		}
		got = string(m.Payload)
	}
	return got
}

// becomes waits for what is retained on a topic.
func (h *house) becomes(topicName, want string) {
	h.t.Helper()
	for end := time.Now().Add(patience); h.state(topicName) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s is %q, want %q", topicName, h.state(topicName), want)
		}
	}
}

func device(root, provider string) string {
	return fmt.Sprintf(`{"name":"n","type":"lightbulb","features":{"on":{}},"root":%q,"providerID":%q}`, root, provider)
}

// Every row is one message after the other.
func TestOwnership(t *testing.T) {
	h := newHouse(t)
	for i, row := range []struct {
		who, topic, payload string
		ok                  bool
	}{
		{"ann", "device/1", device("ann/lamp", ""), true},
		{"bob", "device/1", device("bob/lamp", ""), false}, // it is ann's
		{"bob", "device/1", "", false},
		{"bob", "device/2", device("ann/lamp", ""), false}, // the root is ann's
		{"bob", "device/2", device("annabel/lamp", ""), false},
		{"bob", "device/2", device("bob", ""), false},
		{"bob", "device/2", "not JSON", false},
		{"bob", "device/2", `{"root":"bob/x","Root":"ann/x"}`, false},
		{"bob", "device/2", device("bob/lamp", ""), true},
		{"ann", "device/1", device("ann/other", ""), true}, // again, by its owner
		{"ann", "provider/1", "{}", false},                 // a device has this id
		{"ann", "provider/p", "{}", true},
		{"bob", "device/p", device("bob/x", ""), false}, // a provider has it
		{"bob", "provider/p", "{}", false},
		{"bob", "provider/p", "", false},
		{"bob", "provider/none", "", true},               // nothing is there: it changes nothing
		{"app", "device/1", device("app/x", ""), false},  // not even who acts for the organisation takes it over
		{"app", "device/1", "", true},                    // but may take it away
		{"bob", "device/1", device("bob/one", ""), true}, // then it is free
		{"ann", "device/1", device("ann/lamp", ""), false},
		{"app", "device/9", "anything", true},
		{"ann", "device/9", device("ann/lamp", ""), false},
		{"ann", "house1/device/1", device("ann/lamp", ""), true}, // with a prefix it is another
		{"bob", "house1/provider/1", "{}", false},
		{"bob", "house1/device/1", "", false},
		{"ann", "announce/ann/lamp", `{"topic":"ann/lamp"}`, true},
		{"ann", "announce/ann/lamp", `{"topic":"bob/lamp"}`, false},
		{"ann", "announce/ann/lamp", "", true},
		{"ann", "current/ann/x", "1", false}, // none of the topics that are looked at
		{"ann", "device/1/2", device("ann/x", ""), false},
		{"ann", "other1/device/1", device("ann/x", ""), false},
	} {
		if err := h.publish(row.who, row.topic, row.payload); (err == nil) != row.ok {
			t.Errorf("row %d: %s on %s: %v", i, row.who, row.topic, err)
		}
	}
	for _, s := range []string{"device/3", "provider/3"} {
		m := message(t, "ann", s, device("ann/x", ""))
		m.Retain = false
		if err := h.keeper.Check(t.Context(), m); errs.CodeOf(err) != errs.Denied {
			t.Errorf("%s need not be retained: %v", s, err)
		}
	}
	m := message(t, "ann", "leave", "ann/lamp")
	if err := h.keeper.Check(t.Context(), m); errs.CodeOf(err) != errs.Denied {
		t.Errorf("leave is retained: %v", err)
	}
	m.Retain = false
	if err := h.keeper.Check(t.Context(), m); err != nil {
		t.Error(err)
	}
	m.Payload = []byte("bob/lamp")
	if err := h.keeper.Check(t.Context(), m); errs.CodeOf(err) != errs.Denied {
		t.Errorf("bob is said to leave: %v", err)
	}
	// It holds after a restart, and says so of what is kept, not of what was tried.
	h.close()
	h.open()
	if err := h.publish("ann", "device/2", device("ann/x", "")); err == nil {
		t.Error("after a restart the device is nobody's")
	}
	if err := h.publish("bob", "device/2", device("bob/x", "")); err != nil {
		t.Errorf("after a restart the device is not its owner's: %v", err)
	}
}

// Of many who want an id at the same time one gets it, and no other is told so.
func TestOneOwner(t *testing.T) {
	h := newHouse(t)
	for round := range 20 {
		id := fmt.Sprintf("device/%d", round)
		var wg sync.WaitGroup
		won := make(chan string, 16)
		for i := range 8 {
			who := fmt.Sprintf("user-%d", i)
			wg.Go(func() {
				if h.admit(message(t, who, id, device(who+"/lamp", ""))) == nil {
					won <- who
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%s has %d owners", id, len(won))
		}
		if who := <-won; h.state(id) != device(who+"/lamp", "") {
			t.Fatalf("%s is not %s's: %s", id, who, h.state(id))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A provider that goes takes its devices with it, and nobody else's.
func TestJanitor(t *testing.T) {
	for _, prefix := range []string{"", "house1/"} {
		t.Run(prefix, func(t *testing.T) {
			h := newHouse(t)
			h.run()
			must(t, h.publish("ann", prefix+"provider/p", "{}"))
			must(t, h.publish("ann", prefix+"provider/q", "{}"))
			must(t, h.publish("bob", prefix+"provider/r", "{}"))
			for id, d := range map[string][2]string{"1": {"ann/one", "p"}, "2": {"ann/two", "p"}, "3": {"ann/three", "q"}, "4": {"ann/four", ""}} {
				must(t, h.publish("ann", prefix+"device/"+id, device(d[0], d[1])))
				h.keep(prefix+"current/"+d[0]+"/reachable", "1")
			}
			must(t, h.publish("bob", prefix+"device/5", device("bob/five", "p"))) // says that it is of ann's
			h.keep(prefix+"current/bob/five/reachable", "1")
			must(t, h.publish("ann", prefix+"provider/p", ""))
			for _, root := range []string{"ann/one", "ann/two", "bob/five"} {
				h.becomes(prefix+"current/"+root+"/reachable", "0")
			}
			must(t, h.publish("bob", prefix+"provider/r", "")) // no device: when it was seen to, so was the first
			must(t, h.publish("ann", prefix+"provider/q", ""))
			h.becomes(prefix+"current/ann/three/reachable", "0")
			if got := h.state(prefix + "current/ann/four/reachable"); got != "1" {
				t.Errorf("a device without a bridge is %q", got)
			}
		})
	}
}

// A provider that is back, or a device that has another, is left as it is.
func TestJanitorComesTooLate(t *testing.T) {
	h := newHouse(t)
	for _, id := range []string{"p", "q", "new"} {
		must(t, h.publish("ann", "provider/"+id, "{}"))
	}
	must(t, h.publish("ann", "device/1", device("ann/back", "p")))
	must(t, h.publish("ann", "device/2", device("ann/moved", "q")))
	must(t, h.publish("ann", "device/3", device("ann/gone", "q")))
	h.keep("current/ann/back/reachable", "1")
	h.keep("current/ann/moved/reachable", "1")
	must(t, h.publish("ann", "provider/p", ""))
	must(t, h.publish("ann", "provider/q", ""))
	must(t, h.publish("ann", "provider/p", "{}"))
	must(t, h.publish("ann", "device/2", device("ann/moved", "new")))
	h.run()
	h.becomes("current/ann/gone/reachable", "0")
	for _, root := range []string{"ann/back", "ann/moved"} {
		if got := h.state("current/" + root + "/reachable"); got != "1" {
			t.Errorf("%s is %q", root, got)
		}
	}
}

// What the janitor had no time for is done after the next start.
func TestJanitorAfterRestart(t *testing.T) {
	h := newHouse(t)
	must(t, h.publish("ann", "provider/p", "{}"))
	must(t, h.publish("ann", "device/1", device("ann/one", "p")))
	h.keep("current/ann/one/reachable", "1")
	must(t, h.publish("ann", "provider/p", "")) // nobody runs the janitor
	h.close()
	h.open()
	h.keeper.RetryAfter(time.Millisecond)
	h.mu.Lock()
	h.err = errors.New("the store is away") // it tries again
	h.mu.Unlock()
	h.run()
	for asked := 0; asked < 2; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		if asked = h.asked; asked >= 2 {
			h.err = nil
		}
		h.mu.Unlock()
	}
	h.becomes("current/ann/one/reachable", "0")
}

// failing is an engine that cannot read what is retained.
type failing struct{ engine.Engine }

func (failing) Retained(context.Context, auth.OrgID, topic.Filter) iter.Seq2[*engine.Message, error] {
	return func(yield func(*engine.Message, error) bool) { yield(nil, io.ErrUnexpectedEOF) }
}

// In doubt, no: what cannot be looked at is refused, and the turn is given back.
func TestCannotLook(t *testing.T) {
	k := home.New(home.Config{Engine: failing{}, Log: slog.New(slog.DiscardHandler)})
	for range 3 {
		m := message(t, "ann", "device/1", device("ann/x", ""))
		if err := k.Check(t.Context(), m); errs.CodeOf(err) != errs.Unavailable {
			t.Errorf("checked: %v", err)
		}
		if _, err := k.Admit(t.Context(), m); errs.CodeOf(err) != errs.Unavailable {
			t.Errorf("admitted: %v", err)
		}
	}
	h := newHouse(t)
	handed, err := h.keeper.Admit(t.Context(), message(t, "ann", "device/1", device("ann/x", "")))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.keeper.Admit(ctx, message(t, "bob", "device/1", device("bob/x", ""))); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("admitted out of turn: %v", err)
	}
	handed()
	must(t, h.publish("bob", "device/1", device("bob/x", "")))
}
