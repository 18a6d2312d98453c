package embedded

import (
	"encoding/binary"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
)

// Every key begins with the version of its format and the kind of its value.
// What belongs to an organisation has the organisation next, with its length
// before it, so that one range holds all of one kind that an organisation has,
// and no organisation's range is part of another's.
const keyVersion = 1

// The kinds of keys. The values are stored: never renumber them.
const (
	keyMeta     byte = 'a' // name: what concerns the whole store
	keyCursor   byte = 'c' // org, session: where its queue begins and ends
	keyGarbage  byte = 'g' // org, session: its queue is still to be removed
	keyReceived byte = 'i' // org, session, packet identifier
	keyMessage  byte = 'm' // org, message: sealed, for several queues
	keyRefs     byte = 'n' // org, message: how many entries need it
	keySession  byte = 'p' // org, session
	keyQueue    byte = 'q' // org, session, offset
	keyRetained byte = 'r' // org, topic
	keySub      byte = 's' // org, session, group, filter
	keyTotals   byte = 't' // org: how much it retains
	keyClosed   byte = 'v' // as keyWill: when the will's connection ended
	keyWill     byte = 'w' // org, owner, client
	keyExpiry   byte = 'x' // time, then the kind and the rest of the key that expires
)

// orgKinds are the kinds of keys that belong to an organisation.
var orgKinds = [...]byte{
	keyCursor, keyGarbage, keyReceived, keyMessage, keyRefs, keySession,
	keyQueue, keyRetained, keySub, keyTotals, keyClosed, keyWill,
}

func metaKey(name string) []byte {
	return append([]byte{keyVersion, keyMeta}, name...)
}

func kindKey(dst []byte, kind byte) []byte { return append(dst, keyVersion, kind) }

func orgKey(dst []byte, kind byte, org auth.OrgID) []byte {
	dst = append(dst, keyVersion, kind, byte(len(org)))
	return append(dst, org...)
}

// numberKey is the key of a session or a message.
func numberKey(dst []byte, kind byte, org auth.OrgID, n uint64) []byte {
	return binary.BigEndian.AppendUint64(orgKey(dst, kind, org), n)
}

func queueKey(dst []byte, org auth.OrgID, sid uint64, o engine.Offset) []byte {
	return binary.BigEndian.AppendUint64(numberKey(dst, keyQueue, org, sid), uint64(o))
}

func receivedKey(dst []byte, org auth.OrgID, sid uint64, packetID uint16) []byte {
	return binary.BigEndian.AppendUint16(numberKey(dst, keyReceived, org, sid), packetID)
}

func subKey(dst []byte, org auth.OrgID, sid uint64, n subName) []byte {
	dst = appendText(numberKey(dst, keySub, org, sid), n.group)
	return append(dst, n.filter...)
}

func retainedKey(dst []byte, org auth.OrgID, topic string) []byte {
	return append(orgKey(dst, keyRetained, org), topic...)
}

// willKey is the key of a will, or with keyClosed of its end.
func willKey(dst []byte, kind byte, id engine.SessionID) []byte {
	dst = append(orgKey(dst, kind, id.Owner.Org), byte(id.Owner.Kind))
	return append(appendText(dst, id.Owner.ID), id.Client...)
}

// expiryKey says that what stands at key, which is a queue or retained key, is
// to be looked at then.
func expiryKey(dst []byte, millis int64, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(kindKey(dst, keyExpiry), uint64(millis))
	return append(dst, key[1:]...)
}

// prefixEnd returns the first key after all that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// A parsedKey is a key taken apart.
type parsedKey struct {
	kind   byte
	org    auth.OrgID
	number uint64 // of keys of a session or message
	rest   []byte // what follows
}

// parseKey takes the key of something that belongs to an organisation apart.
func parseKey(key []byte) (parsedKey, error) {
	r := reader{b: key}
	if v := r.byte(); v != keyVersion {
		r.fail("unknown key version")
	}
	k := parsedKey{kind: r.byte()}
	k.org = auth.OrgID(r.take(int(r.byte())))
	switch k.kind {
	case keyRetained, keyTotals, keyClosed, keyWill:
	default:
		k.number = r.uint64()
	}
	k.rest = r.b
	return k, r.err
}

// parseExpiryKey returns the time and the key it is about.
func parseExpiryKey(key []byte) (millis int64, about []byte, err error) {
	r := reader{b: key}
	if r.byte() != keyVersion || r.byte() != keyExpiry {
		r.fail("not an expiry key")
	}
	millis = int64(r.uint64())
	return millis, append([]byte{keyVersion}, r.b...), r.err
}

// parseWillID returns the session whose will or end stands at a key.
func parseWillID(k parsedKey) (engine.SessionID, error) {
	r := reader{b: k.rest}
	id := engine.SessionID{Owner: auth.Principal{Org: k.org, Kind: auth.Kind(r.byte())}}
	id.Owner.ID = r.text()
	id.Client = string(r.b)
	return id, r.err
}
