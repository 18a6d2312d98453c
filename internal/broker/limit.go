package broker

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
)

// A tenant is an organisation with what its clients share. It is never removed:
// whoever is about to enter holds it already.
type tenant struct {
	org    auth.OrgID
	shared group // of all its clients

	// Guarded by b.mu.
	conns     map[*conn]struct{}
	perUser   map[auth.Principal]int64 // connections
	groups    map[string]*group        // by device type
	willBytes int64                    // of the wills that wait for their time

	telling sync.Mutex   // guards told, and the order in which the engine is told
	told    quota.Limits // what the engine was told last
}

// A group is some clients that share limits: all of an organisation, or the
// devices of one type.
type group struct {
	conns    int64 // guarded by b.mu
	messages quota.Bucket
	bytes    quota.Bucket
	latest   atomic.Pointer[quota.Limits] // of its clients: they share one copy
}

// tenant returns an organisation. b.mu is held.
func (b *Broker) tenant(org auth.OrgID) *tenant {
	t := b.tenants[org]
	if t == nil {
		t = &tenant{org: org, conns: map[*conn]struct{}{}, perUser: map[auth.Principal]int64{}, groups: map[string]*group{}}
		b.tenants[org] = t
	}
	return t
}

// tenantOf returns the organisation of p and the group of its device type; that
// is nil if it has none.
func (b *Broker) tenantOf(p auth.Principal) (*tenant, *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tenant(p.Org)
	if p.Kind != auth.Device && p.Kind != auth.Gateway {
		return t, nil
	}
	typ, _ := p.TypeAndID()
	if t.groups[typ] == nil {
		t.groups[typ] = new(group)
	}
	return t, t.groups[typ]
}

// enter counts a connection, unless that is one too many. b.mu is held.
func (t *tenant) enter(c *conn) error {
	limits := c.limits.Load()
	type scope struct {
		limit quota.Limit
		have  int64
	}
	scopes := []scope{
		{quota.OrgConnections, int64(len(t.conns))},
		{quota.ClientConnections, t.perUser[c.id.Owner]},
	}
	if c.group != nil {
		scopes = append(scopes, scope{quota.TypeConnections, c.group.conns})
	}
	for _, s := range scopes {
		if most := limits.Get(s.limit); s.have >= most {
			return quota.Exceeded(s.limit, most)
		}
	}
	t.conns[c] = struct{}{}
	t.perUser[c.id.Owner]++
	if c.group != nil {
		c.group.conns++
	}
	return nil
}

// leave is the opposite of enter. b.mu is held.
func (t *tenant) leave(c *conn) {
	delete(t.conns, c)
	if t.perUser[c.id.Owner]--; t.perUser[c.id.Owner] == 0 {
		delete(t.perUser, c.id.Owner)
	}
	if c.group != nil {
		c.group.conns--
	}
}

// limitsOf returns what holds for a client with this grant, which is in g of t.
func (b *Broker) limitsOf(t *tenant, g *group, grant *auth.Grant) *quota.Limits {
	limits := grant.Limits(b.cfg.Limits)
	if limits == b.cfg.Limits {
		return &b.cfg.Limits // as for nearly everybody: one for all
	}
	if g == nil {
		g = &t.shared
	}
	if latest := g.latest.Load(); latest != nil && *latest == limits {
		return latest
	}
	g.latest.Store(&limits)
	return &limits
}

// setGrant has a grant decide from here on, and its limits hold. seen is how
// many changes were known when it was asked for. If there are more now they may
// have been of its limits, and the caller asks again.
func (c *conn) setGrant(g *auth.Grant, seen uint64) {
	c.grant.Store(g)
	c.holdLimits(g, seen)
}

// swapGrant is setGrant, if old decides until then.
func (c *conn) swapGrant(old, g *auth.Grant, seen uint64) bool {
	if !c.grant.CompareAndSwap(old, g) {
		return false
	}
	c.holdLimits(g, seen)
	return true
}

// holdLimits has the limits of g hold, or of a grant that came after it.
func (c *conn) holdLimits(g *auth.Grant, seen uint64) {
	for newest := (*auth.Grant)(nil); g != newest; newest, g = g, c.grant.Load() {
		c.limits.Store(c.b.limitsOf(c.tenant, c.group, g))
		c.b.limitOrg(c.tenant, g.OrgLimits(c.b.cfg.Limits), seen)
	}
}

// limitOrg tells the engine what holds for an organisation, if it does not know.
// It does not if there were changes since seen, which may be of these limits:
// who is told of the change has newer ones.
func (b *Broker) limitOrg(t *tenant, limits quota.Limits, seen uint64) {
	t.telling.Lock()
	defer t.telling.Unlock()
	if t.told == limits || b.changes.Load() != seen {
		return
	}
	t.told = limits
	b.cfg.Engine.Limit(t.org, limits)
}

// limitsChanged has every client obey the limits of its organisation, or of its
// device type, that have changed. It asks for those and not for each client,
// because nothing else of their grants is in question.
func (b *Broker) limitsChanged(ch auth.Change) {
	b.mu.Lock()
	t := b.tenants[ch.Org]
	b.mu.Unlock()
	if t == nil {
		return // none of its clients was here yet
	}
	present, err := b.presentLimits(t, ch.Type)
	conns := b.ofType(t, ch.Type)
	if err != nil {
		b.log.Error("changed limits cannot be read: asking for each client's grant", "org", ch.Org, "err", err)
		b.renew(conns)
		return
	}
	for _, c := range conns {
		// Whose group is not there has come since, and asks for itself.
		if l := present[c.group]; l != nil {
			c.limits.Store(l)
		}
	}
}

// presentLimits returns what holds for the clients of each group now: of all
// groups, and of who is in none, or only of the one that typ names. It tells the
// engine what holds for the organisation.
func (b *Broker) presentLimits(t *tenant, typ string) (map[*group]*quota.Limits, error) {
	seen := b.changes.Load()
	ctx, cancel := context.WithTimeout(b.life, renewTimeout)
	defer cancel()
	org, err := b.cfg.Verifier.Limits(ctx, t.org, "")
	if err != nil {
		return nil, err
	}
	org = org.Over(b.cfg.Limits)
	b.limitOrg(t, org, seen)
	groups := map[string]*group{}
	b.mu.Lock()
	for name, g := range t.groups {
		if g.conns > 0 && (typ == "" || typ == name) {
			groups[name] = g
		}
	}
	b.mu.Unlock()
	present := map[*group]*quota.Limits{nil: &org}
	for name, g := range groups {
		set, err := b.cfg.Verifier.Limits(ctx, t.org, name)
		if err != nil {
			return nil, err
		}
		l := set.Under(org)
		present[g] = &l
		g.latest.Store(&l)
	}
	return present, nil
}

// ofType returns the connections of a tenant or, unless typ is empty, those of
// its devices of that type.
func (b *Broker) ofType(t *tenant, typ string) []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	conns := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		if typ == "" || c.group != nil && c.group == t.groups[typ] {
			conns = append(conns, c)
		}
	}
	return conns
}

// maxOutbound is how many bytes may wait for the client.
func (c *conn) maxOutbound() int { return int(c.limits.Load().Get(quota.ClientOutbound)) }

// checkLevels checks the depth of a topic name or filter.
func checkLevels(limits *quota.Limits, s string) error {
	if most := limits.Get(quota.ClientTopicLevels); int64(strings.Count(s, "/")) >= most {
		return quota.Exceeded(quota.ClientTopicLevels, most)
	}
	return nil
}

// maxPause is how long a message may wait for its turn. It holds up everything
// behind it, PINGREQ too.
const maxPause = 5 * time.Second

// A toll is one rate that a message counts for.
type toll struct {
	bucket *quota.Bucket
	limit  quota.Limit
	n      int64
}

// take takes a message off every rate, or off none. It returns how long to wait.
func take(limits *quota.Limits, tolls []toll, now time.Time) (wait time.Duration, by quota.Limit, err error) {
	for i, t := range tolls {
		w, ok := t.bucket.Take(t.n, limits.Get(t.limit), now, maxPause)
		if !ok {
			for _, paid := range tolls[:i] {
				paid.bucket.Return(paid.n, limits.Get(paid.limit))
			}
			return 0, t.limit, quota.Exceeded(t.limit, limits.Get(t.limit))
		}
		if w > wait {
			wait, by = w, t.limit
		}
	}
	return wait, by, nil
}

// charge takes one message of size bytes off what the client may send, and waits
// until it may.
func (c *conn) charge(limits *quota.Limits, size int) error {
	n := int64(size)
	tolls := [6]toll{
		{&c.messages, quota.ClientMessageRate, 1}, {&c.bytes, quota.ClientByteRate, n},
		{&c.tenant.shared.messages, quota.OrgMessageRate, 1}, {&c.tenant.shared.bytes, quota.OrgByteRate, n},
	}
	all := tolls[:4]
	if c.group != nil {
		tolls[4] = toll{&c.group.messages, quota.TypeMessageRate, 1}
		tolls[5] = toll{&c.group.bytes, quota.TypeByteRate, n}
		all = tolls[:]
	}
	wait, by, err := take(limits, all, c.now())
	if err != nil || wait == 0 {
		return err
	}
	c.noteLimit(by, limits.Get(by), quota.Delayed, 1)
	return c.pause(wait)
}

// slow takes n requests that are no messages, of size bytes together, off what
// the connection may send, and waits until it may.
func (c *conn) slow(n, size int) error {
	limits, now := c.limits.Load(), c.now()
	wait, _ := c.messages.Take(int64(n), limits.Get(quota.ClientMessageRate), now, time.Hour)
	forBytes, _ := c.bytes.Take(int64(size), limits.Get(quota.ClientByteRate), now, time.Hour)
	by := quota.ClientMessageRate
	if forBytes > wait {
		wait, by = forBytes, quota.ClientByteRate
	}
	if wait == 0 {
		return nil
	}
	c.noteLimit(by, limits.Get(by), quota.Delayed, 1)
	return c.pause(min(wait, maxPause))
}

// pause reads nothing from the client for a while.
func (c *conn) pause(d time.Duration) error {
	c.block()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return errEnded
	}
}

// chargePost is charge for a message over HTTP, which slowPost has counted.
func (b *Broker) chargePost(r *http.Request, grant *auth.Grant, t *tenant, g *group, limits *quota.Limits, size int) error {
	tolls := []toll{{&peerOf(r).bytes, quota.ClientByteRate, int64(size)},
		{&t.shared.messages, quota.OrgMessageRate, 1}, {&t.shared.bytes, quota.OrgByteRate, int64(size)}}
	if g != nil {
		tolls = append(tolls, toll{&g.messages, quota.TypeMessageRate, 1}, toll{&g.bytes, quota.TypeByteRate, int64(size)})
	}
	delay, by, err := take(limits, tolls, time.Now())
	if err != nil || delay == 0 {
		return err
	}
	b.notePost(grant, by, limits.Get(by), quota.Delayed)
	return pausePost(r, delay)
}

// slowPost is slow for a message over HTTP, whether it is allowed or not.
func (b *Broker) slowPost(r *http.Request, grant *auth.Grant, limits *quota.Limits) error {
	rate := limits.Get(quota.ClientMessageRate)
	delay, _ := peerOf(r).messages.Take(1, rate, time.Now(), time.Hour)
	if delay == 0 {
		return nil
	}
	b.notePost(grant, quota.ClientMessageRate, rate, quota.Delayed)
	return pausePost(r, min(delay, maxPause))
}

func pausePost(r *http.Request, d time.Duration) error {
	if !wait(r.Context(), d) {
		return r.Context().Err()
	}
	return nil
}

// notePost is noteLimit for a message over HTTP.
func (b *Broker) notePost(grant *auth.Grant, l quota.Limit, value int64, o quota.Outcome) {
	p := grant.Principal()
	b.cfg.LimitLog.Add(quota.Event{Org: string(p.Org), Principal: p.String(), Limit: l, Value: value, Outcome: o})
}

// noteLimit lets the owner of the client see that it reached a limit.
func (c *conn) noteLimit(l quota.Limit, value int64, o quota.Outcome, n int64) {
	c.b.cfg.LimitLog.Add(quota.Event{
		Org: string(c.id.Owner.Org), Principal: c.id.Owner.String(), Client: c.client(),
		Limit: l, Value: value, Outcome: o, Count: n,
	})
}

// client returns the client's part of the name of its session.
func (c *conn) client() string {
	name, _, _ := strings.Cut(c.id.Client, "\x00")
	return name
}

// noteRefusal is noteLimit if err says that the client reached a limit. That of
// another's queue was reached by that one, as the engine notes.
func (c *conn) noteRefusal(err error) {
	if l, value, ok := quota.ExceededBy(err); ok && c.tenant != nil && !errors.Is(err, engine.ErrQueueFull) {
		c.noteLimit(l, value, quota.Refused, 1)
	}
}

// droppedLocked counts a QoS 0 message for which there is no room. out.mu is held.
func (c *conn) droppedLocked() {
	o := &c.out
	c.b.metrics.dropSlow.Add(1)
	o.dropped++
	if now := time.Now().Unix(); now != o.dropNoted {
		o.dropNoted = now
		c.noteDropsLocked()
	}
}

// noteDrops lets the owner see what was dropped and not shown yet.
func (c *conn) noteDrops() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.noteDropsLocked()
}

func (c *conn) noteDropsLocked() {
	if c.out.dropped > 0 {
		c.noteLimit(quota.ClientOutbound, int64(c.maxOutbound()), quota.Dropped, c.out.dropped)
		c.out.dropped = 0
	}
}
