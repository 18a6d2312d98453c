package embedded

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/topic"
)

func parsedName(t testing.TB, s string) topic.Name {
	t.Helper()
	n, err := topic.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sampleWill(t testing.TB) *engine.Will {
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "type:id"}
	return &engine.Will{
		Session: engine.SessionID{Owner: p, Client: "client"},
		Delay:   time.Minute,
		Ref:     auth.Ref{Principal: p, Client: "client", Credential: "token:1", Expires: time.UnixMilli(5), Address: netip.MustParseAddr("192.0.2.7")},
		Message: engine.Message{
			Org: "abc123", Topic: parsedName(t, "a/b"), Payload: []byte("gone"), QoS: 2, Retain: true, From: p,
			Properties: (&mqtt.Properties{ContentType: mqtt.Some("x")}).Carried(), Expires: time.UnixMilli(77),
		},
	}
}

// records are all formats, each with a sample and how it is read and written.
func records(t testing.TB) map[string]struct {
	sample []byte
	again  func([]byte) ([]byte, error)
} {
	type format = struct {
		sample []byte
		again  func([]byte) ([]byte, error)
	}
	p := auth.Principal{Org: "abc123", Kind: auth.User, ID: "u"}
	session := sessionRecord{id: engine.SessionID{Owner: p, Client: "c"}, expiry: engine.Forever, queue: 5, held: true, closed: time.UnixMilli(9), sent: 7, queueBytes: 6, endWhenFull: true}
	totals := retainedTotals{1 << 40, 1 << 50}
	cur := cursor{next: 1 << 40, low: 3, count: 4, bytes: 5}
	entry := entryRecord{meta: meta{message: 1 << 60, inline: true, size: 10, expires: 11}, qos: 2, retain: true, ids: []uint32{1, 1 << 28}, sealed: []byte("sealed")}
	sealed := sealedRecord{message: 9, expires: 8, sealed: []byte("sealed")}
	w := sampleWill(t)
	return map[string]format{
		"session": {session.append(nil), func(b []byte) ([]byte, error) {
			r, err := parseSession(b)
			return r.append(nil), err
		}},
		"totals": {totals.append(nil), func(b []byte) ([]byte, error) {
			r, err := parseTotals(b)
			return r.append(nil), err
		}},
		"cursor": {cur.append(nil), func(b []byte) ([]byte, error) {
			r, err := parseCursor(b)
			return r.append(nil), err
		}},
		"entry": {entry.append(nil), func(b []byte) ([]byte, error) {
			r, err := parseEntry(b)
			return r.append(nil), err
		}},
		"sealed": {sealed.append(nil), func(b []byte) ([]byte, error) {
			r, err := parseSealed(b)
			return r.append(nil), err
		}},
		"number": {appendNumber(nil, 1<<63), func(b []byte) ([]byte, error) {
			r, err := parseNumber(b)
			return appendNumber(nil, r), err
		}},
		"subscription": {appendSub(nil, &engine.Subscription{QoS: 1, NoLocal: true, ID: 7}), func(b []byte) ([]byte, error) {
			r, err := parseSub(append(appendText(nil, "g"), "a/+"...), b)
			return appendSub(nil, &r), err
		}},
		"message": {appendMessage(nil, &w.Message), func(b []byte) ([]byte, error) {
			m, err := parseMessage("abc123", b)
			if err != nil {
				return nil, err
			}
			return appendMessage(nil, m), nil
		}},
		"will": {appendWill(nil, w), func(b []byte) ([]byte, error) {
			w, err := parseWill(w.Session, b)
			if err != nil {
				return nil, err
			}
			return appendWill(nil, w), nil
		}},
		"key": {queueKey(nil, "abc123", 5, 6), func(b []byte) ([]byte, error) {
			k, err := parseKey(b)
			if err != nil {
				return nil, err
			}
			switch k.kind {
			case keyRetained, keyTotals, keyClosed, keyWill:
				return append(orgKey(nil, k.kind, k.org), k.rest...), nil
			}
			return append(numberKey(nil, k.kind, k.org, k.number), k.rest...), nil
		}},
		"expiry key": {expiryKey(nil, 99, retainedKey(nil, "abc123", "a/b")), func(b []byte) ([]byte, error) {
			at, about, err := parseExpiryKey(b)
			if err != nil {
				return nil, err
			}
			return expiryKey(nil, at, about), nil
		}},
	}
}

func TestRecords(t *testing.T) {
	for name, f := range records(t) {
		again, err := f.again(f.sample)
		if err != nil || !bytes.Equal(again, f.sample) {
			t.Errorf("%s: %x becomes %x, %v", name, f.sample, again, err)
		}
		for i := range f.sample {
			if name == "key" || name == "entry" || name == "sealed" || name == "message" || name == "will" || name == "expiry key" {
				break // they end in bytes of any length
			}
			if _, err := f.again(f.sample[:i]); err == nil {
				t.Errorf("%s: cut at %d is accepted", name, i)
			}
		}
		f.sample[0]++
		if _, err := f.again(f.sample); err == nil {
			t.Errorf("%s: another version is accepted", name)
		}
	}
}

func TestWillRecord(t *testing.T) {
	want := sampleWill(t)
	got, err := parseWill(want.Session, appendWill(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	id, err := parseWillKey(t, want.Session)
	if err != nil || id != want.Session {
		t.Errorf("%+v, %v", id, err)
	}
}

func parseWillKey(t *testing.T, id engine.SessionID) (engine.SessionID, error) {
	t.Helper()
	k, err := parseKey(willKey(nil, keyWill, id))
	if err != nil {
		return engine.SessionID{}, err
	}
	return parseWillID(k)
}

// One organisation's keys are never among another's.
func TestKeyRanges(t *testing.T) {
	orgs := []auth.OrgID{"a", "ab", "b", "aa", "abc123", "abc124"}
	for _, in := range orgs {
		prefix := orgKey(nil, keyQueue, in)
		end := prefixEnd(prefix)
		for _, other := range orgs {
			for _, n := range []uint64{0, 1, 1<<64 - 1} {
				k := queueKey(nil, other, n, 1<<64-1)
				if inside := bytes.Compare(k, prefix) >= 0 && bytes.Compare(k, end) < 0; inside != (in == other) {
					t.Errorf("key of %s in the range of %s: %v", other, in, inside)
				}
			}
		}
	}
	if end := prefixEnd([]byte{1, 0xff, 0xff}); !bytes.Equal(end, []byte{2}) {
		t.Errorf("end %x", end)
	}
}

func FuzzRecords(f *testing.F) {
	all := records(f)
	for _, r := range all {
		f.Add(r.sample)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, r := range all {
			again, err := r.again(b)
			if err != nil {
				continue
			}
			// What is read and written again reads the same.
			third, err := r.again(again)
			if err != nil || !bytes.Equal(third, again) {
				t.Errorf("%s: %x, then %x, %v", name, again, third, err)
			}
		}
		if k, err := parseKey(b); err == nil {
			_, _ = parseWillID(k)
			_, _ = parseSub(k.rest, b)
		}
	})
}
