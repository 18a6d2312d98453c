// Package quota says how much a client, the devices of a type together, and an
// organisation may use, and what happens at each limit.
//
// Every limit has a default, in the one table of this file, and none can be
// turned off: what is not bounded by one is bounded by another. Settings are
// laid over each other with Over (an operator's for an organisation may raise
// and lower) and Under (an organisation's for a device type may only lower).
//
// The package also has what enforcing needs: Bucket for rates, Exceeded for the
// refusal, and Log for what the owner of a client is to see of it. It does not
// count connections, messages or bytes: those who have them do.
package quota

import (
	"slices"
	"strings"
)

// A Limit names one thing that is bounded.
type Limit byte

// The limits. Those of Client hold for each client by itself, those of Type for
// all clients of one device type together, those of Org for an organisation.
const (
	ClientPacket Limit = iota
	ClientPayload
	ClientTopicLevels
	ClientMessageRate
	ClientByteRate
	ClientInflight
	ClientSubscriptions
	ClientQueue
	ClientQueueBytes
	ClientQueueFull
	ClientOutbound
	ClientConnections

	TypeConnections
	TypeMessageRate
	TypeByteRate

	OrgConnections
	OrgMessageRate
	OrgByteRate
	OrgSessions
	OrgSubscriptions
	OrgQueue
	OrgQueueBytes
	OrgRetained
	OrgRetainedBytes
	OrgWillBytes

	count
)

// The values of ClientQueueFull: what becomes of a message for a persistent
// session whose queue is full.
const (
	Refuse     int64 = 1 // it is refused to its publisher, for everybody
	EndSession int64 = 2 // the session with the full queue ends, and its owner is told
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// table says everything about each limit. Change a default here and nowhere else.
var table = [count]struct {
	name    string
	def     int64
	min     int64
	max     int64
	about   string
	atLimit string
}{
	ClientPacket: {"client.packet", mib, kib, 256*mib - 1,
		"bytes of one packet from a client",
		"the connection ends: 0x95 Packet too large"},
	ClientPayload: {"client.payload", mib, 0 + 1, 256*mib - 1,
		"bytes of one application message",
		"the message is refused: 0x97 Quota exceeded; HTTP 413"},
	ClientTopicLevels: {"client.topic_levels", 128, 2, 32_768,
		"levels of a topic name or filter",
		"the message or subscription is refused: 0x97 Quota exceeded"},
	ClientMessageRate: {"client.message_rate", 50_000, 1, 10_000_000,
		"messages and other requests a second from one connection, in bursts of two seconds' worth",
		"the connection is read more slowly"},
	ClientByteRate: {"client.byte_rate", 64 * mib, kib, 100 * gib,
		"bytes a second from one connection, in bursts of two seconds' worth",
		"the connection is read more slowly; a message behind one of more than seven seconds' worth is refused: 0x97 Quota exceeded"},
	ClientInflight: {"client.inflight", 1000, 1, 65_535,
		"unacknowledged QoS 1 and 2 messages, each way",
		"from a client: the connection ends, 0x93 Receive Maximum exceeded; to it: the rest waits"},
	ClientSubscriptions: {"client.subscriptions", 10_000, 1, 1_000_000,
		"subscriptions of one session, long ones as several: all their filters may have 256 bytes for each",
		"the subscription is refused: 0x97 Quota exceeded"},
	ClientQueue: {"client.queue", 100_000, 1, 10_000_000,
		"messages waiting in one persistent session",
		"as client.queue_full says"},
	ClientQueueBytes: {"client.queue_bytes", 64 * mib, 64 * kib, 100 * gib,
		"bytes of messages waiting in one persistent session",
		"as client.queue_full says"},
	ClientQueueFull: {"client.queue_full", Refuse, Refuse, EndSession,
		"what a full queue does: refuse, or end_session",
		"refuse: the publisher gets 0x97 Quota exceeded; end_session: the session ends with all it holds, 0x97, and its owner sees it"},
	ClientOutbound: {"client.outbound", mib, 16 * kib, 256 * mib,
		"bytes waiting for a client that reads slowly",
		"QoS 0 is dropped and its owner sees it; QoS 1 and 2 wait in the queue, or end a session without one: 0x97 Quota exceeded"},
	ClientConnections: {"client.connections", 100_000, 1, 10_000_000,
		"connections at one time with one user, API key or device",
		"CONNECT is refused: 0x97 Quota exceeded"},

	TypeConnections: {"type.connections", 1_000_000, 1, 10_000_000,
		"connections at one time of the devices of one type",
		"CONNECT is refused: 0x97 Quota exceeded"},
	TypeMessageRate: {"type.message_rate", 500_000, 1, 10_000_000,
		"messages a second from the devices of one type",
		"their connections are read more slowly; a message that would wait too long is refused: 0x97 Quota exceeded"},
	TypeByteRate: {"type.byte_rate", gib, kib, 100 * gib,
		"bytes of messages a second from the devices of one type",
		"as type.message_rate"},

	OrgConnections: {"org.connections", 1_000_000, 1, 10_000_000,
		"connections at one time",
		"CONNECT is refused: 0x97 Quota exceeded"},
	OrgMessageRate: {"org.message_rate", 500_000, 1, 10_000_000,
		"messages a second from all clients",
		"connections are read more slowly; a message that would wait too long is refused: 0x97 Quota exceeded"},
	OrgByteRate: {"org.byte_rate", gib, kib, 100 * gib,
		"bytes of messages a second from all clients",
		"as org.message_rate"},
	OrgSessions: {"org.sessions", 1_000_000, 1, 100_000_000,
		"persistent sessions, connected or not",
		"a CONNECT that would make one is refused: 0x97 Quota exceeded"},
	OrgSubscriptions: {"org.subscriptions", 10_000_000, 1, 1_000_000_000,
		"subscriptions of all sessions",
		"the subscription is refused: 0x97 Quota exceeded"},
	OrgQueue: {"org.queue", 20_000_000, 1, 1_000_000_000,
		"messages waiting in all persistent sessions",
		"messages for persistent sessions are refused: 0x97 Quota exceeded"},
	OrgQueueBytes: {"org.queue_bytes", 16 * gib, mib, 100_000 * gib,
		"bytes of messages waiting in all persistent sessions",
		"as org.queue"},
	OrgRetained: {"org.retained", 1_000_000, 1, 1_000_000_000,
		"retained messages",
		"a message that would add one is refused: 0x97 Quota exceeded"},
	OrgRetainedBytes: {"org.retained_bytes", gib, kib, 100_000 * gib,
		"bytes of retained messages",
		"a message that would add to them is refused: 0x97 Quota exceeded"},
	OrgWillBytes: {"org.will_bytes", 256 * mib, kib, 100_000 * gib,
		"bytes of wills that wait for the end of their delay",
		"a CONNECT with a will that would wait is refused: 0x97 Quota exceeded"},
}

// All returns all limits, in the order of the table.
func All() []Limit {
	all := make([]Limit, count)
	for i := range all {
		all[i] = Limit(i)
	}
	return all
}

// Named returns the limit of that name.
func Named(name string) (Limit, bool) {
	i := slices.IndexFunc(All(), func(l Limit) bool { return table[l].name == name })
	return Limit(max(i, 0)), i >= 0
}

// String returns the limit's name, for example "client.packet".
func (l Limit) String() string { return table[l].name }

// Default returns the value that holds if nobody sets another.
func (l Limit) Default() int64 { return table[l].def }

// Range returns the least and the largest value that may be set.
func (l Limit) Range() (least, most int64) { return table[l].min, table[l].max }

// About says what is bounded, and in what unit.
func (l Limit) About() string { return table[l].about }

// AtLimit says what happens at the limit.
func (l Limit) AtLimit() string { return table[l].atLimit }

// OfOrg reports whether the limit is one of a whole organisation, which its
// device types cannot have a value of their own for.
func (l Limit) OfOrg() bool { return strings.HasPrefix(table[l].name, "org.") }
