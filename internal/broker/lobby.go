package broker

import (
	"context"
	"net"
	"sync"
	"time"
)

// A lobby is where connections are until their TLS handshake is done. It has a
// bounded number of places. When they are all taken, whoever has kept us waiting
// longest makes room: clients that say nothing, or little at a time, do not keep
// others out. Time in which we are the ones to act counts for nobody, so that
// many honest clients at once queue and are not sent away.
type lobby struct {
	places chan struct{} // holds one token per guest

	mu     sync.Mutex // guards guests
	guests map[*guest]struct{}
}

// grace is how long a client may keep us waiting, in all, before its place may
// go to another.
const grace = time.Second

func newLobby(places int) *lobby {
	return &lobby{places: make(chan struct{}, places), guests: map[*guest]struct{}{}}
}

// enter gives nc a place, or returns nil if ctx ends first.
func (l *lobby) enter(ctx context.Context, nc net.Conn) *guest {
	for {
		select {
		case l.places <- struct{}{}:
			return l.seat(nc)
		default:
		}
		retry := time.NewTimer(l.makeRoom())
		select {
		case l.places <- struct{}{}:
			retry.Stop()
			return l.seat(nc)
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil
		}
	}
}

func (l *lobby) seat(nc net.Conn) *guest {
	g := &guest{Conn: nc, lobby: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guests[g] = struct{}{}
	return g
}

// makeRoom closes the connection of the guest that has kept us waiting longest,
// if that is too long. It returns how long to wait for a place
// before the next call.
func (l *lobby) makeRoom() time.Duration {
	now := time.Now()
	l.mu.Lock()
	var worst *guest
	var longest time.Duration
	for g := range l.guests {
		if w := g.waited(now); w > longest {
			worst, longest = g, w
		}
	}
	if worst != nil && longest >= grace {
		delete(l.guests, worst) // its place is free when its handshake returns
	} else {
		worst = nil
	}
	l.mu.Unlock()
	if worst == nil {
		return max(grace-longest, 10*time.Millisecond)
	}
	worst.Conn.Close()
	return grace
}

// leave frees the place of g, whose handshake is over.
func (l *lobby) leave(g *guest) {
	l.mu.Lock()
	delete(l.guests, g)
	l.mu.Unlock()
	g.mu.Lock()
	g.lobby = nil
	g.mu.Unlock()
	<-l.places
}

// A guest is a connection below TLS. While it is in the lobby it notes how long
// it keeps us waiting.
type guest struct {
	net.Conn

	mu    sync.Mutex // guards the fields below; comes after lobby.mu
	lobby *lobby     // nil once it has left
	since time.Time  // when the read began that is under way
	total time.Duration
}

// waited returns how long the guest has kept us waiting.
func (g *guest) waited(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		return g.total
	}
	return g.total + now.Sub(g.since)
}

func (g *guest) Read(b []byte) (int, error) {
	if !g.begin() {
		return g.Conn.Read(b)
	}
	n, err := g.Conn.Read(b)
	g.mu.Lock()
	g.total += time.Since(g.since)
	g.since = time.Time{}
	g.mu.Unlock()
	return n, err
}

// begin notes that a read begins. It reports false if nobody needs to know.
func (g *guest) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lobby == nil {
		return false
	}
	g.since = time.Now()
	return true
}
