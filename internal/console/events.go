package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/topic"
)

const (
	flushEvery = 200 * time.Millisecond // readings are gathered for so long
	checkEvery = 500 * time.Millisecond // whoever reads is authenticated anew so often
	aliveEvery = 15 * time.Second       // so that a dead connection is noticed
	writeIn    = 10 * time.Second       // a browser that takes nothing for so long is gone
	maxStreams = 12                     // of one person at a time
)

// The reasons for which a stream ends that the browser is told.
var (
	errSignedOut = errors.New("signed-out") // the session or the organisation is gone: do not come back
	errStopping  = errors.New("stopping")   // the server stops, or the session was lost: come back later
)

// events streams the readings of an organisation as server-sent events, through
// a session of the engine like any other receiver.
func (s *server) events(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	token, err := token(r)
	if err != nil {
		return err
	}
	org, err := s.org(r, actor, r.URL.Query().Get("org"))
	if err != nil {
		return err
	}
	if err := s.registry.MayReceive(r.Context(), actor, org.ID); err != nil {
		return err
	}
	if org.Disabled {
		return errs.E(errs.Denied, "The organisation is disabled.")
	}
	if !s.streams.enter(actor.Principal.ID) {
		return errs.E(errs.Exhausted, "Too many pages with readings are open; close one.")
	}
	defer s.streams.leave(actor.Principal.ID)

	f := newFeed()
	closeSession, err := s.subscribe(r.Context(), org, f)
	if err != nil {
		return err
	}
	defer closeSession()

	ctx, cancel := context.WithCancelCause(r.Context())
	out := &stream{w: w, rc: http.NewResponseController(w), writeIn: s.writeIn}
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() { s.watch(ctx, cancel, out, actor, token, address(r), org.ID, f) })

	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if err := out.send("hello", map[string]string{"org": string(org.ID)}); err != nil {
		return nil // the browser is gone, and the answer has begun
	}
	s.pump(ctx, out, f)
	switch why := context.Cause(ctx); {
	case errors.Is(why, errSignedOut), errors.Is(why, errStopping):
		_ = out.send("bye", why.Error()) // it ends either way
	}
	return nil
}

// subscribe claims a session of the console's own for f.
func (s *server) subscribe(ctx context.Context, org registry.Org, f *feed) (closeSession func(), err error) {
	pattern := "iot-2/type/+/id/+/evt/+/fmt/+"
	switch org.Profile {
	case registry.ProfilePlain:
		pattern = "#"
	case registry.ProfileHome:
		if pattern = "current/#"; org.Home.Prefix {
			pattern = string(org.ID) + "/" + pattern
		}
	}
	filter, err := topic.ParseFilter(pattern)
	if err != nil {
		return nil, fmt.Errorf("parse filter: %w", err)
	}
	c, err := s.engine.Claim(ctx, engine.Claim{
		ID:    engine.SessionID{Owner: auth.Principal{Org: org.ID, Kind: auth.System, ID: "console"}, Client: request()},
		Clean: true, Sink: f,
	})
	if err != nil {
		return nil, fmt.Errorf("claim session: %w", err)
	}
	closeSession = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := c.Session.Close(ctx, engine.Close{}); err != nil && !errors.Is(err, engine.ErrLost) {
			s.log.ErrorContext(ctx, "close session", "org", org.ID, "err", err)
		}
	}
	if _, err := c.Session.Subscribe(ctx, []engine.Subscription{{Filter: filter}}); err != nil {
		closeSession()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return closeSession, nil
}

// watch ends the stream as soon as its reader may not read any more, also while
// a slow browser holds up a write.
func (s *server) watch(ctx context.Context, cancel context.CancelCauseFunc, out *stream, actor registry.Actor, token secret.String, addr string, org auth.OrgID, f *feed) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		var why error
		select {
		case <-ctx.Done():
			return
		case <-s.stop:
			why = errStopping
		case <-f.lost:
			why = errStopping
			if s.allowed(ctx, actor, token, addr, org) != nil {
				why = errSignedOut
			}
		case <-tick.C:
			if err := s.allowed(ctx, actor, token, addr, org); err != nil {
				why = errSignedOut
			}
		}
		if why != nil && ctx.Err() == nil {
			cancel(why)
			out.hurry()
			return
		}
	}
}

// allowed asks again whether the reader may read. A check that cannot be made
// is a no.
func (s *server) allowed(ctx context.Context, actor registry.Actor, token secret.String, addr string, org auth.OrgID) error {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	now, err := s.registry.Session(ctx, token, addr)
	if err != nil {
		return err
	}
	if now.Principal != actor.Principal {
		return errs.E(errs.Unauthenticated, "somebody else is signed in now")
	}
	if err := s.registry.MayReceive(ctx, now, org); err != nil {
		return err
	}
	o, err := s.registry.Org(ctx, now, org)
	if err != nil {
		return err
	}
	if o.Disabled {
		return errs.E(errs.Denied, "the organisation is disabled")
	}
	return nil
}

// pump sends what arrives until ctx ends or the browser is gone.
func (s *server) pump(ctx context.Context, out *stream, f *feed) {
	flush, alive := time.NewTicker(flushEvery), time.NewTicker(aliveEvery)
	defer flush.Stop()
	defer alive.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			err = out.alive()
		case <-flush.C:
			waiting, skipped := f.take()
			if ctx.Err() != nil { // both were ready, and the reader may not read any more
				return
			}
			if skipped > 0 {
				err = out.send("skipped", skipped)
			}
			if err == nil && len(waiting) > 0 {
				err = out.send("readings", readings(waiting))
			}
		}
		if err != nil {
			return
		}
	}
}

// readings makes what waits fit to be shown, oldest first.
func readings(waiting map[string]sample) []reading {
	out := make([]reading, 0, len(waiting))
	for t, m := range waiting {
		r := reading{}
		if m.large {
			r = read(t, nil, m.at)
			r.Note = "too large to show"
		} else {
			r = read(t, m.payload, m.at)
		}
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Time.Before(out[j].Time) })
	return out
}

// A stream writes server-sent events. Only hurry may be called by another
// goroutine than the one that sends.
type stream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	writeIn time.Duration

	mu      sync.Mutex // guards hurried and the setting of deadlines, which it orders
	hurried bool
}

func (o *stream) send(event string, v any) error {
	b, err := json.Marshal(v) // has no line breaks, so one data line is enough
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return o.write(fmt.Sprintf("event: %s\ndata: %s\n\n", event, b))
}

func (o *stream) alive() error { return o.write(": alive\n\n") }

func (o *stream) write(s string) error {
	o.deadline(time.Now().Add(o.writeIn))
	// HTTP/2 ends a stream whose deadline passes even when nothing is written.
	defer o.deadline(time.Time{})
	if _, err := o.w.Write([]byte(s)); err != nil {
		return err
	}
	return o.rc.Flush()
}

// deadline gives a write its time. Where the connection cannot have deadlines,
// the end of the request still ends the stream.
func (o *stream) deadline(t time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.hurried {
		_ = o.rc.SetWriteDeadline(t)
	}
}

// hurry leaves a write that is under way, and the farewell, a moment only.
func (o *stream) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurried = true
	_ = o.rc.SetWriteDeadline(time.Now().Add(checkEvery / 2))
}

// streams counts the streams of each person.
type streams struct {
	mu     sync.Mutex // guards what is below
	person map[string]int
}

func (s *streams) enter(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.person[id] >= maxStreams {
		return false
	}
	s.person[id]++
	return true
}

func (s *streams) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.person[id]--; s.person[id] <= 0 {
		delete(s.person, id)
	}
}
