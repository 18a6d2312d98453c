// Package engine is the message seam: it keeps and routes messages.
//
// An Engine promises three things. A message never leaves its organisation.
// Publish reports success for QoS 1 and 2 only when the message survives a
// crash, wherever a persistent session or a retained topic needs it. A
// persistent session finds, whenever it comes back before it expires, its
// subscriptions, its queue in order and its QoS 2 state as they were
// acknowledged.
//
// It does not know who may do what: its callers ask that first.
package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// ErrLost is returned by every method of a Session that another Claim has taken
// over, that was dropped, or that was closed.
var ErrLost = errors.New("session is no longer held")

// ErrQueueFull is given to a publisher when a persistent session that must get
// the message has no room for it, as quota.ExceededBy tells. The message is then
// kept for nobody.
var ErrQueueFull = errors.New("the queue of a session is full")

// ErrTakenOver is what Lost says when another Claim has taken the session.
var ErrTakenOver = fmt.Errorf("taken over: %w", ErrLost)

// ErrDropped is what Lost says when Drop ended the session, and Publish when it came
// between.
var ErrDropped = fmt.Errorf("dropped: %w", ErrLost)

// ErrEnded is what Lost says when the session has ended because a message found
// no room in its queue; quota.ExceededBy tells which limit that was.
var ErrEnded = fmt.Errorf("ended with a full queue: %w", ErrLost)

// ErrDiskFull is given while too little room is left to keep anything more.
// What frees room goes on, and so does everything once there is room again.
var ErrDiskFull = errors.New("no room left to keep messages")

// ErrFailed is given when the engine can no longer keep anything: what it wrote
// last may or may not be there. Nothing of it was acknowledged. Only opening
// the engine again ends that; until then messages that need not be kept go on.
var ErrFailed = errors.New("the message store has failed")

// ErrClosed is given when the engine is being closed.
var ErrClosed = errors.New("the engine is closed")

// A SessionID names a session. The owner comes from authentication, so two
// owners never share a session, whatever client identifiers they choose.
type SessionID struct {
	Owner  auth.Principal
	Client string
}

// A Message is an application message inside an organisation.
type Message struct {
	Org        auth.OrgID
	Topic      topic.Name
	Payload    []byte
	Properties mqtt.Carried // forwarded unaltered, in their encoded form
	QoS        byte
	Retain     bool
	From       auth.Principal
	Expires    time.Time // zero: never
}

// A Subscription is one topic filter of a session. Filter and Group together
// name it: subscribing again replaces it.
type Subscription struct {
	Filter            topic.Filter
	Group             string // shared subscription; "" if not shared. Groups of different owners are different groups
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // subscription identifier; 0: none

	// Retained asks Subscribe for retained messages. It is not kept.
	Retained RetainedWhen
}

// RetainedWhen says when Subscribe queues the retained messages that match.
type RetainedWhen byte

// Shared subscriptions get no retained messages, whatever they ask for.
const (
	RetainedNever  RetainedWhen = iota
	RetainedIfNew               // if the subscription was not there
	RetainedAlways              // also if it was
)

// Subscribed is what became of a subscription.
type Subscribed struct {
	Existed bool // it was there, and was replaced

	// Queued says that its retained messages with a QoS above 0 were queued:
	// the session is persistent. Those with QoS 0, and those of other sessions,
	// come from Engine.Retained.
	Queued  bool
	Direct  int    // with Queued: how many had QoS 0
	LeftOut int    // with Queued: how many found no room in the queue
	Last    Offset // with Queued: of the last one; 0: there is none
}

// Delivery says how a message goes to one session. When several of its
// subscriptions match, they are one delivery at the highest QoS [MQTT-3.3.4-2].
type Delivery struct {
	QoS    byte
	Retain bool     // the RETAIN flag to send
	IDs    []uint32 // subscription identifiers; shared, do not change
}

// A Sink receives for a session that is held. Its methods must return at once
// and may be called from any goroutine. They may be called before Claim returns.
//
// They, and the done functions given to an Engine, may call Ack and
// Release. They must not call what may wait for the engine: it waits for them.
type Sink interface {
	// Deliver hands over a message that is not queued: QoS 0, or any QoS for a
	// session that is not persistent. m is valid only during the call. One that
	// is under way while the session is lost may come after Lost.
	Deliver(m *Message, d Delivery)
	// Wake says that the queue has entries that Read has not returned yet.
	Wake()
	// Lost says that the session is held no longer, and why: it was claimed
	// again, dropped, ended with a full queue or it expired, or the engine fails.
	Lost(why error)
}

// An Offset is the position of an entry in the queue of a session: 1, 2, 3, …
// without gaps. It is durable, so that a packet identifier derived from it is
// the same after a crash.
type Offset uint64

// An Entry is one queued message of a persistent session.
type Entry struct {
	Offset   Offset
	Message  *Message // nil when Released: only the PUBREL is still to be sent
	Delivery Delivery
	Sent     bool // it may have been sent before: DUP
	Released bool // a PUBREC was received for it
}

// A Will is a message to be published when a connection ends without DISCONNECT.
type Will struct {
	Session SessionID
	Message Message       // its Expires counts from the Unix epoch on, not from a publication nobody knows yet
	Delay   time.Duration // from the end of the connection; from Wills, no longer than the session goes on
	Ref     auth.Ref      // who may have it published; asked again when it is due
	Closed  time.Time     // when the connection ended; zero: it was cut by a crash
}

// A Claim asks for a session.
type Claim struct {
	ID     SessionID
	Clean  bool          // discard what is there first
	UID    string        // of the owner; a session that another UID has left is discarded
	Expiry time.Duration // how long the session outlives its connection; 0: it is not persistent; Forever
	Queue  int           // messages the queue may hold; 0: the engine's default
	// QueueBytes is how many bytes of messages the queue may hold; 0: the engine's default.
	QueueBytes int64
	// EndWhenFull has the session end, with all it holds, when a message finds no
	// room in its queue; the message goes on to everybody else, and its publisher
	// hears of it when the end is durable too. The will is kept, and due at once.
	// Otherwise the message is refused to its publisher.
	EndWhenFull bool
	Will        *Will // nil: none
	Sink        Sink
	// MayWait, unless it is nil, is called by Publish, on the goroutine of its caller,
	// before it waits: for room to commit the message, a key, or the store. When it is
	// not called, Publish has not waited.
	MayWait func()
}

// Forever is the expiry of a session that does not expire.
const Forever = time.Duration(1<<63 - 1)

// Claimed is what a Claim found.
type Claimed struct {
	Session       Session
	Present       bool           // there was a session, and it goes on
	Subscriptions []Subscription // of the session that goes on
	Received      []uint16       // packet identifiers of QoS 2 messages received and not yet released
}

// An Engine keeps and routes messages.
type Engine interface {
	// Claim takes hold of a session, of which there is one holder at a time: a
	// former one is told by Lost. It returns when what it changed is durable.
	Claim(ctx context.Context, c Claim) (Claimed, error)

	// Publish is Session.Publish for a sender without a session.
	Publish(ctx context.Context, m *Message, done func(error))

	// Retained yields the retained messages of an organisation that match f and
	// have not expired. It sees every retained message whose Publish was called
	// before.
	Retained(ctx context.Context, org auth.OrgID, f topic.Filter) iter.Seq2[*Message, error]

	// Wills yields the wills of sessions that nobody holds. One that cannot be read
	// comes as an error and nothing but its Session; others may follow.
	Wills(ctx context.Context) iter.Seq2[*Will, error]

	// DropWill forgets the will of a session: it was published, or must not be.
	DropWill(ctx context.Context, id SessionID) error

	// Drop ends every session of owner, or of its organisation if its kind is
	// AnyKind, with queues, subscriptions and wills. Holders are told by Lost.
	// What an organisation has under way is refused with ErrDropped.
	Drop(ctx context.Context, owner auth.Principal) error

	// Limit sets what an organisation may have: those limits of quota that are of
	// an organisation and of sessions, subscriptions, queues and retained messages.
	// Until it is called the defaults hold. What is over a limit already stays. What
	// would go beyond one is refused with quota.Exceeded before anything changes: a
	// Claim, a Subscribe, or a message, which then goes to nobody who would queue it
	// and, if it is to be retained, to nobody at all.
	Limit(org auth.OrgID, l quota.Limits)
	// Stats counts what an organisation has now; "" stands for all of them.
	Stats(ctx context.Context, org auth.OrgID) (Stats, error)
}

// A Session is a session that is held. Its methods are called by one goroutine
// at a time, except Ack and Release, which any goroutine may call.
type Session interface {
	// Subscribe adds or replaces subscriptions and tells what became of each. It
	// returns when they are durable and in effect, and with them the retained
	// messages they queued, with the RETAIN flag. A retained message is never
	// queued behind a later message that Subscribe let in. With both a result and an
	// error the subscriptions are in effect, and retained messages are missing.
	Subscribe(ctx context.Context, subs []Subscription) ([]Subscribed, error)

	// Unsubscribe removes the subscription with that filter and group.
	Unsubscribe(ctx context.Context, f topic.Filter, group string) (existed bool, err error)

	// Publish routes m, which it does not keep. done is called once, from any
	// goroutine, possibly before Publish returns: with nil and QoS > 0, m
	// survives a crash wherever a persistent session or a retained topic needs
	// it. With QoS 2 and a persistent session, packetID is recorded in the same
	// commit; packetID is 0 otherwise.
	Publish(ctx context.Context, m *Message, packetID uint16, done func(error))

	// Forget removes a recorded packet identifier, for PUBREL; done is called
	// when that is durable.
	Forget(packetID uint16, done func(error))

	// Read appends to dst queued entries after the given offset, in order, at
	// most cap(dst)-len(dst) of them. Expired messages are passed over and gone.
	Read(ctx context.Context, after Offset, dst []Entry) ([]Entry, error)

	// Ack removes an entry: PUBACK or PUBCOMP was received.
	Ack(o Offset)

	// Release records that PUBREC was received; done is called when that is durable.
	Release(o Offset, done func(error))

	// Close lets go of the session. With an expiry of 0 it ends here and now.
	Close(ctx context.Context, c Close) error
}

// Close says how a session is let go.
type Close struct {
	Expiry   time.Duration
	KeepWill bool // the connection ended without DISCONNECT 0x00: the will is still to be published
}

// Stats are numbers of an engine, or of one organisation.
type Stats struct {
	Sessions      int64 // with a connection or persistent
	Persistent    int64 // of them
	Held          int64 // of them, by a connection
	Subscriptions int64
	Queued        int64 // messages in queues or about to be, each counted once for each queue
	QueuedBytes   int64
	Retained      int64
	RetainedBytes int64
	// Err tells why the engine refuses to keep anything now; nil: it does not.
	Err error
}
