package embedded

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
)

// A bareSealer seals nothing, so that what is sealed can be fuzzed too.
type bareSealer struct{}

func (bareSealer) Seal(dst, plaintext, _ []byte) []byte { return append(dst, plaintext...) }

func (bareSealer) Open(dst, sealed, _ []byte) ([]byte, error) { return append(dst, sealed...), nil }

// FuzzLoad puts any records into a store that is otherwise sound, and opens it.
// It is refused, or it works: a session can be claimed, read and let go.
func FuzzLoad(f *testing.F) {
	id := engine.SessionID{Owner: auth.Principal{Org: "abc123", Kind: auth.User, ID: "u"}, Client: "c"}
	session := sessionRecord{id: id, expiry: time.Hour, queue: 5, sent: 1}
	cur := cursor{next: 3, low: 1, count: 2, bytes: 20}
	message := appendMessage(nil, &engine.Message{Org: "abc123", Topic: parsedName(f, "a"), Payload: []byte("p"), QoS: 1, From: id.Owner})
	entry := entryRecord{meta: meta{message: 9, inline: true, size: 10}, qos: 1, sealed: message}
	sub := appendSub(nil, &engine.Subscription{QoS: 1})
	add := func(pairs ...[]byte) {
		var in []byte
		for _, p := range pairs {
			in = appendText(in, p)
		}
		f.Add(in)
	}
	add()
	add(numberKey(nil, keySession, "abc123", 1), session.append(nil), numberKey(nil, keyCursor, "abc123", 1), cur.append(nil),
		queueKey(nil, "abc123", 1, 1), entry.append(nil), queueKey(nil, "abc123", 1, 2), entry.append(nil),
		subKey(nil, "abc123", 1, subName{"", "a/+"}), sub, receivedKey(nil, "abc123", 1, 7), nil)
	add(numberKey(nil, keySession, "abc123", 1), session.append(nil)) // without its cursor
	add(retainedKey(nil, "abc123", "a"), (&sealedRecord{message: 3, sealed: message}).append(nil))
	add(willKey(nil, keyWill, id), (&sealedRecord{message: 4, sealed: appendWill(nil, sampleWill(f))}).append(nil),
		willKey(nil, keyClosed, id), appendNumber(nil, 5))
	add(expiryKey(nil, 1, queueKey(nil, "abc123", 1, 1)), nil, expiryKey(nil, 1, retainedKey(nil, "abc123", "a")), nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		fs := vfs.NewMem()
		o := Options{
			Dir: "data", FS: fs, Log: slog.New(slog.DiscardHandler),
			Sealer: func(context.Context, auth.OrgID) (Sealer, error) { return bareSealer{}, nil },
		}
		e, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		r := reader{b: in}
		for range 32 {
			key, value := r.bytes(), r.bytes()
			if r.err != nil {
				break
			}
			if len(key) >= 2 && key[0] == keyVersion && key[1] != keyMeta {
				if err := e.db.Set(key, value, pebble.NoSync); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if e, err = Open(t.Context(), o); err != nil {
			return
		}
		use(t, e, id)
		if err := e.Close(); err != nil && !errors.Is(err, engine.ErrFailed) {
			t.Fatal(err)
		}
	})
}

// use does with a session what a connection does. Damage is reported, not hidden.
func use(t *testing.T, e *Engine, id engine.SessionID) {
	c, err := e.Claim(t.Context(), engine.Claim{ID: id, Expiry: time.Hour, Sink: sink{}})
	if err != nil {
		return
	}
	entries, err := c.Session.Read(t.Context(), 0, make([]engine.Entry, 0, 10))
	for _, n := range entries {
		if n.Message == nil && !n.Released {
			t.Fatalf("entry %d without a message, %v", n.Offset, err)
		}
		c.Session.Ack(n.Offset)
	}
	_, _ = e.Stats(t.Context(), id.Owner.Org)
	_ = c.Session.Close(t.Context(), engine.Close{Expiry: time.Hour})
}

type sink struct{}

func (sink) Deliver(*engine.Message, engine.Delivery) {}
func (sink) Wake()                                    {}
func (sink) Lost(error)                               {}
