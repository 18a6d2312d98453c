package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// saveAgain is the pause after the position could not be saved.
const saveAgain = time.Second

// stage says how far a reading under way has come.
type stage uint8

const (
	published stage = iota // PUBLISH is sent
	received               // PUBREC is here, but perhaps not on disk yet
	released               // PUBREC is on disk and PUBREL is sent
	completed              // PUBCOMP is here, or the server will never take the reading
)

type underway struct {
	seq   uint64
	stage stage
}

// A flow is the uplink over one connection. One goroutine runs it.
type flow struct {
	*uplink
	c     *client.Client
	acks  chan client.Ack
	limit int        // readings under way at once
	all   []underway // in order
	next  uint64     // the first reading that is not under way
	dirty bool       // all says more than the durable position
}

// resume puts the readings under way that an earlier connection left so. Those
// the server has taken are released; if it has lost the session they are done,
// and must not be published again. The others are published by fill.
func (f *flow) resume(ctx context.Context) error {
	f.next = f.position.Completed + 1
	for _, seq := range f.position.Received {
		f.all = append(f.all, underway{seq, received})
	}
	present := f.c.Server().SessionPresent
	for i := range f.all {
		if !present {
			f.all[i].stage = completed
			continue
		}
		f.all[i].stage = released
		if err := f.release(ctx, f.all[i].seq); err != nil {
			return err
		}
	}
	if !present {
		f.sent = f.position.Completed // a first publish for this session: DUP is 0
		if len(f.all) > 0 {
			f.dirty = true
		}
	}
	return nil
}

func (f *flow) release(ctx context.Context, seq uint64) error {
	return f.c.Release(ctx, packetID(seq), func(a client.Ack) { f.acks <- a })
}

// serve publishes and takes answers until ctx or the connection ends.
func (f *flow) serve(ctx context.Context) error {
	stuck := false
	for {
		saved := f.save(ctx)
		if saved == nil {
			if err := f.fill(ctx); err != nil {
				return err
			}
		} else if !errors.Is(saved, errSave) {
			return saved
		}
		var again <-chan time.Time
		if saved != nil {
			if !stuck {
				f.log.Error("uplink: waits until the disk takes its position", "err", saved)
			}
			again = time.After(saveAgain)
		}
		stuck = saved != nil
		select {
		case <-ctx.Done():
			return nil
		case <-f.renewed:
			return nil
		case <-f.c.Done():
			return f.c.Err()
		case <-again:
		case <-f.spool.wake:
		case a := <-f.acks:
			if err := f.take(a); err != nil {
				return err
			}
		}
	}
}

// take notes an answer and all that have come with it.
func (f *flow) take(a client.Ack) error {
	var failed error
	for {
		if err := f.note(a); err != nil {
			failed = err
		}
		select {
		case a = <-f.acks:
		default:
			return failed
		}
	}
}

func (f *flow) note(a client.Ack) error {
	i := slices.IndexFunc(f.all, func(u underway) bool { return packetID(u.seq) == a.PacketID })
	if i < 0 {
		return nil
	}
	u := &f.all[i]
	switch {
	case a.Type == mqtt.PUBCOMP:
		// "Packet identifier not found" is as good: the answer was lost before.
		u.stage = completed
	case !a.Code.IsError():
		u.stage, f.dirty = received, true
	case hopeless(a.Code):
		f.reject(u, a.Code, a.Reason)
	default:
		return &client.Refusal{Packet: a.Type, Code: a.Code, Reason: a.Reason}
	}
	return nil
}

// hopeless reports whether the server will never take this very reading.
// Every other refusal is answered by trying again later.
func hopeless(c mqtt.ReasonCode) bool {
	return c == mqtt.TopicNameInvalid || c == mqtt.PayloadFormatInvalid || c == mqtt.PacketTooLarge
}

func (f *flow) reject(u *underway, code mqtt.ReasonCode, reason string) {
	u.stage, f.dirty = completed, true
	f.spool.lose(lossRejected, 1)
	f.log.Error("uplink: the server rejects a reading for good", "seq", u.seq, "code", code.String(), "reason", reason)
}

// current returns the position that all that is under way adds up to.
func (f *flow) current() position {
	p := position{Completed: f.position.Completed}
	rest := f.all
	// What is not below next may have readings before it that wait for fill.
	for len(rest) > 0 && rest[0].stage == completed && rest[0].seq < f.next {
		p.Completed = rest[0].seq
		rest = rest[1:]
	}
	for _, u := range rest {
		if u.stage != published {
			p.Received = append(p.Received, u.seq)
		}
	}
	return p
}

var errSave = errors.New("the position is not saved")

// save makes the position durable if an answer asks for it, and then releases
// what the server has taken. That order is what keeps a reading from being
// published twice.
func (f *flow) save(ctx context.Context) error {
	if f.dirty {
		if err := f.settle(); err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
	}
	for i := range f.all {
		if f.all[i].stage != received {
			continue
		}
		f.all[i].stage = released
		if err := f.release(ctx, f.all[i].seq); err != nil {
			return err
		}
	}
	return nil
}

// settle makes the position durable if it has changed.
func (f *flow) settle() error {
	p := f.current()
	if !f.dirty && p.Completed == f.position.Completed {
		return nil
	}
	if err := f.spool.savePosition(p); err != nil {
		return err
	}
	f.position, f.dirty = p, false
	f.all = slices.DeleteFunc(f.all, func(u underway) bool { return u.seq <= p.Completed })
	return nil
}

// fill publishes as many readings as may be under way. None is published whose
// number is beyond the window behind the durable position.
func (f *flow) fill(ctx context.Context) error {
	for {
		if err := f.skip(); err != nil {
			return err
		}
		room := f.limit - f.open()
		if room <= 0 {
			return nil
		}
		recs, err := f.spool.read(f.next, f.position.Completed+window, room)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			if f.current().Completed == f.position.Completed || f.spool.nextSeq() <= f.position.Completed+window+1 {
				return nil // nothing waits beyond the window: the disk is spared
			}
			if err := f.settle(); err != nil { // moves the window on
				return fmt.Errorf("%w: %w", errSave, err)
			}
			continue
		}
		for _, r := range recs {
			if err := f.publish(ctx, r); err != nil {
				return err
			}
		}
	}
}

// open counts the readings that take a place in the server's Receive Maximum.
func (f *flow) open() (n int) {
	for _, u := range f.all {
		if u.stage != completed {
			n++
		}
	}
	return n
}

// skip moves the position over numbers that no reading has, when nothing is
// under way.
func (f *flow) skip() error {
	if f.open() > 0 {
		return nil
	}
	first, ok, err := f.spool.after(max(f.next-1, f.current().Completed))
	if err != nil || !ok || first <= f.position.Completed+window {
		return err
	}
	f.next, f.dirty = first, true
	f.all = append(f.all, underway{first - 1, completed})
	return f.settle()
}

func (f *flow) publish(ctx context.Context, r record) error {
	f.next = r.seq + 1
	if slices.Contains(f.position.Received, r.seq) {
		return nil // the server has it
	}
	m := client.Message{Topic: f.topic(r.source), Payload: r.payload, QoS: 2}
	dup := r.seq <= f.sent
	f.sent = max(f.sent, r.seq)
	i, _ := slices.BinarySearchFunc(f.all, r.seq, func(u underway, seq uint64) int { return int(int64(u.seq - seq)) })
	f.all = slices.Insert(f.all, i, underway{r.seq, published})
	err := f.c.Post(ctx, packetID(r.seq), dup, m, func(a client.Ack) { f.acks <- a })
	var no *client.Refusal
	if errors.As(err, &no) && hopeless(no.Code) {
		f.reject(&f.all[i], no.Code, no.Reason)
		return nil
	}
	return err
}
