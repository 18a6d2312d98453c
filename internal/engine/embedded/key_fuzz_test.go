package embedded

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
)

// FuzzKeys reads any bytes as a key of every kind. What is read is written again
// as the same bytes, and stands within the range of its organisation only.
func FuzzKeys(f *testing.F) {
	id := engine.SessionID{Owner: auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}, Client: "c"}
	for _, k := range [][]byte{
		queueKey(nil, "abc123", 1, 2), receivedKey(nil, "abc123", 1, 3), numberKey(nil, keySession, "abc123", 1),
		numberKey(nil, keyMessage, "abc123", 1<<63), subKey(nil, "abc123", 1, subName{"g", "a/+"}), subKey(nil, "abc123", 1, subName{"", "#"}),
		retainedKey(nil, "abc123", "a/b"), willKey(nil, keyWill, id), willKey(nil, keyClosed, id), metaKey("format"),
		expiryKey(nil, 5, queueKey(nil, "abc123", 1, 2)), expiryKey(nil, -1, retainedKey(nil, "abc123", "a")),
	} {
		f.Add(k)
	}
	for _, want := range []subName{{"g", "a/+"}, {"", "#"}, {"g/", "g"}} {
		k, err := parseKey(subKey(nil, "abc123", 1, want))
		s, err2 := parseSub(k.rest, appendSub(nil, &engine.Subscription{}))
		if got := (subName{s.Group, s.Filter.String()}); err != nil || err2 != nil || got != want {
			f.Fatalf("%q is read as %q, %v, %v", want, got, err, err2)
		}
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		before := bytes.Clone(key)
		if at, about, err := parseExpiryKey(key); err == nil {
			if again := expiryKey(nil, at, about); !bytes.Equal(again, key) {
				t.Fatalf("% x is read as what is written % x", key, again)
			}
			checkKey(t, about)
		}
		checkKey(t, key)
		if !bytes.Equal(before, key) {
			t.Fatal("the key was changed")
		}
	})
}

// checkKey checks what is read of a key that may belong to an organisation.
func checkKey(t *testing.T, key []byte) {
	k, err := parseKey(key)
	if err != nil {
		return
	}
	in := orgKey(nil, k.kind, k.org)
	if !bytes.HasPrefix(key, in) || bytes.Compare(key, in) < 0 || bytes.Compare(key, prefixEnd(in)) >= 0 {
		t.Fatalf("% x is not in the range of %q", key, k.org)
	}
	switch k.kind {
	case keyRetained:
		if again := retainedKey(nil, k.org, string(k.rest)); !bytes.Equal(again, key) {
			t.Fatalf("retained: % x becomes % x", key, again)
		}
	case keyWill, keyClosed:
		id, err := parseWillID(k)
		if err != nil {
			return
		}
		if id2, err := parseWillID(again(t, willKey(nil, k.kind, id))); err != nil || id2 != id || id.Owner.Org != k.org {
			t.Fatalf("will: % x is of %+v, then of %+v, %v", key, id, id2, err)
		}
	case keySub:
		value := appendSub(nil, &engine.Subscription{QoS: 1})
		s, err := parseSub(k.rest, value)
		if err != nil {
			return
		}
		k2 := again(t, subKey(nil, k.org, k.number, subName{s.Group, s.Filter.String()}))
		if s2, err := parseSub(k2.rest, value); err != nil || s2 != s || k2.org != k.org || k2.number != k.number {
			t.Fatalf("subscription: % x is %+v, then %+v, %v", key, s, s2, err)
		}
	case keyQueue:
		if len(k.rest) == 8 {
			if again := queueKey(nil, k.org, k.number, engine.Offset(binary.BigEndian.Uint64(k.rest))); !bytes.Equal(again, key) {
				t.Fatalf("queue: % x becomes % x", key, again)
			}
		}
	}
}

// again reads a key that was written from what another one said. Lengths within
// keys are written in one form only, but read in every one.
func again(t *testing.T, key []byte) parsedKey {
	k, err := parseKey(key)
	if err != nil {
		t.Fatalf("% x is written, and not read: %v", key, err)
	}
	return k
}
