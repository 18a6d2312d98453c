package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/google/uuid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// connect serves the first packet, which must be CONNECT. With nil the client
// has its session and CONNACK is on its way.
func (c *conn) connect() error {
	patience := c.b.cfg.ConnectTimeout
	if c.nc == net.Conn(c.peer) { // over WebSocket, HTTP has had its own
		patience = time.Until(c.peer.deadline)
	}
	c.alive = time.AfterFunc(patience, func() {
		c.end(ending{quiet: true, urgent: true, err: context.DeadlineExceeded})
	})
	h, body, err := c.next(preConnect)
	if err != nil {
		return err
	}
	if h.Type != mqtt.CONNECT {
		return protocolError(mqtt.ProtocolError, "the first packet must be CONNECT [MQTT-3.1.0-1]")
	}
	p, err := mqtt.DecodeConnect(body)
	if err != nil {
		if c.version, _ = mqtt.ConnectVersion(body); c.version == 0 && errors.As(err, new(*mqtt.Error)) {
			c.version = announced(body)
		}
		return c.reject(err)
	}
	c.version = p.Version
	c.clientMax = p.Properties.MaximumPacketSize.Or(mqtt.MaxPacketSize) // holds for a refusal too [MQTT-3.2.2-19]
	if err := c.admitClient(p); err != nil {
		if errors.Is(err, errEnded) || c.ctx.Err() != nil {
			return errEnded
		}
		return c.reject(err)
	}
	return nil
}

// announced returns the version to answer an unknown one in: the nearest that
// we speak [MQTT-3.1.2-2]. A protocol of another name has none: what we say may
// mean anything there [MQTT-3.1.2-1].
func announced(body []byte) mqtt.Version {
	level, ok := bytes.CutPrefix(body, []byte("\x00\x04MQTT"))
	switch {
	case ok && len(level) > 0 && level[0] > byte(mqtt.V5) && level[0] < 0x80:
		return mqtt.V5
	case ok, bytes.HasPrefix(body, []byte("\x00\x06MQIsdp")):
		return mqtt.V311
	}
	return 0
}

// reject answers a CONNECT that is refused and closes.
func (c *conn) reject(err error) error {
	code := connectCode(err)
	pe := new(mqtt.Error)
	malformed := errors.As(err, &pe) && (code == mqtt.MalformedPacket || code == mqtt.ProtocolError)
	c.b.metrics.refused[errs.CodeOf(err)].Add(1)
	c.noteRefusal(err)
	c.tellRefused(err, code)
	c.log().Info("connection refused", "code", code.String(), "err", err)
	ack := &mqtt.Connack{Code: code}
	switch {
	case c.version >= mqtt.V5:
		msg := errs.Message(err)
		if pe.Msg != "" {
			msg = pe.Msg
		}
		if msg != "" {
			ack.Properties.ReasonString = reason(msg)
		}
	case malformed, c.version == 0:
		return errEnded // before MQTT 5 a malformed packet is answered by closing [MQTT-4.8.0-1]
	case code == mqtt.ClientIdentifierNotValid && pe.Msg != "":
		ack.Code = mqtt.ReasonCode(mqtt.ReturnIdentifierRejected) // [MQTT-3.1.3-8]
	default:
		ack.Code = mqtt.ReasonCode(returnCode(code))
	}
	c.send(ack)
	return errEnded
}

// admitClient finds out who the client is and gives it its session.
func (c *conn) admitClient(p *mqtt.Connect) error {
	if c.b.isDraining() {
		return protocolError(mqtt.ServerBusy, "the server is shutting down")
	}
	client, assigned, err := clientID(p)
	if err != nil {
		return err
	}
	c.name = client
	seen := c.b.changes.Load()
	who := client + "\x00" + p.Username.Or("")
	if err := c.peer.mayTry(c.ctx, who, func(d time.Duration) { c.alive.Reset(d + c.b.cfg.ConnectTimeout) }); err != nil {
		return err
	}
	grant, err := c.authenticate(p, client, who)
	c.peer.judge(who, err)
	if err != nil {
		return err
	}
	if err := c.take(grant, p, seen); err != nil {
		return err
	}
	if err := c.b.enter(c); err != nil {
		return err
	}
	// From here on changes reach this connection; what came before is asked for.
	const attempts = 1000
	for range attempts {
		now := c.b.changes.Load()
		if now == seen {
			return c.begin(p, assigned)
		}
		seen = now
		if grant, err = c.b.cfg.Verifier.Renew(c.ctx, grant.Ref()); err != nil {
			return err
		}
		c.setGrant(grant, seen)
	}
	return protocolError(mqtt.ServerBusy, "what the client may do changes too often")
}

// clientID returns the client identifier, or a new one if there is none.
func clientID(p *mqtt.Connect) (id string, assigned bool, err error) {
	switch {
	case p.ClientID != "":
		return p.ClientID, false, nil
	case p.Version == mqtt.V31, p.Version == mqtt.V311 && !p.CleanStart:
		return "", false, protocolError(mqtt.ClientIdentifierNotValid, "client identifier: must not be empty [MQTT-3.1.3-8]")
	}
	return "auto-" + uuid.NewString(), true, nil // [MQTT-3.1.3-6]
}

// take notes what the client asks for, as far as its grant goes.
func (c *conn) take(grant *auth.Grant, p *mqtt.Connect, seen uint64) error {
	if end := grant.Ref().Expires; !end.IsZero() && !time.Now().Before(end) {
		return errs.E(errs.Unauthenticated, "the credential has expired")
	}
	c.id = engine.SessionID{Owner: grant.Principal(), Client: grant.Ref().Client}
	c.tenant, c.group = c.b.tenantOf(grant.Principal())
	c.setGrant(grant, seen)
	limits := c.limits.Load()
	switch {
	case grant.Separate():
		// Such connections share a name and no session. Nobody could resume it.
		c.id.Client += "\x00" + uuid.NewString()
	case p.Version >= mqtt.V5:
		c.expiry = c.b.sessionExpiry(p.Properties.SessionExpiry.Or(0))
	case !p.CleanStart:
		c.expiry = c.b.cfg.MaxSessionExpiry
	}
	c.persistent = c.expiry > 0
	c.keepAlive = time.Duration(p.KeepAlive) * time.Second
	if most := c.b.cfg.MaxKeepAlive.Truncate(time.Second); p.Version >= mqtt.V5 && most > 0 && (c.keepAlive == 0 || c.keepAlive > most) {
		c.keepAlive = min(most, 65535*time.Second)
	}
	c.quota = int(limits.Get(quota.ClientInflight))
	c.window = min(c.quota, int(p.Properties.ReceiveMaximum.Or(mqtt.DefaultReceiveMaximum)))
	c.maxPacket = uint32(limits.Get(quota.ClientPacket))
	c.aliasMax = min(int(p.Properties.TopicAliasMaximum.Or(0)), c.b.cfg.TopicAliases)
	c.problemInfo = p.Properties.RequestProblemInfo.Or(true)
	return c.takeWill(grant, limits, p)
}

// takeWill checks the will, which must be allowed now and again when it is due.
func (c *conn) takeWill(grant *auth.Grant, limits *quota.Limits, p *mqtt.Connect) error {
	w := p.Will
	if w == nil {
		return nil
	}
	name, err := publishName(grant, limits, w.Topic)
	if err != nil {
		if errs.CodeOf(err) == errs.Invalid {
			return protocolError(mqtt.TopicNameInvalid, "will topic: not a topic name of this client")
		}
		return c.refused(auth.Publish, w.Topic, err)
	}
	if w.Retain && !grant.Retain() {
		if p.Version >= mqtt.V5 {
			return protocolError(mqtt.RetainNotSupported, "will: retain is not available to this client [MQTT-3.2.2-13]")
		}
		w.Retain = false
	}
	if most := limits.Get(quota.ClientPayload); int64(len(w.Payload)) > most {
		return quota.Exceeded(quota.ClientPayload, most)
	}
	c.will = &engine.Will{
		Session: c.id,
		Message: engine.Message{
			Org: c.id.Owner.Org, Topic: name, Payload: w.Payload, Properties: w.Carried,
			QoS: w.QoS, Retain: w.Retain, From: c.id.Owner, Expires: willLifetime(w.Expiry),
		},
		Delay: time.Duration(w.Delay) * time.Second,
		Ref:   grant.Ref(),
	}
	if grant.Guarded(name) {
		if err := c.b.check(c.ctx, &c.will.Message); err != nil {
			return err
		}
	}
	if min(c.will.Delay, c.expiry) > 0 {
		return c.b.mayLeave(c.will, limits)
	}
	return nil
}

// sessionExpiry returns how long a session lasts for which seconds are asked.
func (b *Broker) sessionExpiry(seconds uint32) time.Duration {
	if seconds == mqtt.SessionNeverExpires {
		return b.cfg.MaxSessionExpiry
	}
	return min(time.Duration(seconds)*time.Second, b.cfg.MaxSessionExpiry)
}

// begin claims the session and tells the client.
func (c *conn) begin(p *mqtt.Connect, assigned bool) error {
	limits := c.limits.Load()
	c.out.hold = 1 // CONNACK comes first [MQTT-3.2.0-1]
	claimed, err := c.b.claim(c.ctx, engine.Claim{
		ID: c.id, UID: c.grant.Load().Ref().UID, Clean: p.CleanStart, Expiry: c.expiry, Will: c.will, Sink: c, MayWait: c.block,
		Queue: int(limits.Get(quota.ClientQueue)), QueueBytes: limits.Get(quota.ClientQueueBytes),
		EndWhenFull: limits.Get(quota.ClientQueueFull) == quota.EndSession,
	})
	if err != nil {
		return err
	}
	c.sess = claimed.Session
	c.out.mu.Lock()
	c.persistent = c.persistent || claimed.Present // it has a queue, though this connection is its last
	c.out.mu.Unlock()
	c.b.metrics.connected.Add(1)
	c.b.metrics.connects.Add(1)
	c.tellConnected(false)
	for _, id := range claimed.Received {
		c.replies.note(id, receiptOld)
	}
	for _, s := range claimed.Subscriptions {
		c.subs.put(s)
	}
	grant := c.grant.Load()
	if err := c.adopt(); err != nil {
		return err
	}
	c.heard.Store(time.Now().UnixNano())
	c.alive.Stop()
	if c.keepAlive > 0 {
		c.alive = time.AfterFunc(c.keepAlive+c.keepAlive/2, c.keepAliveExpired)
	}
	ack := &mqtt.Connack{SessionPresent: claimed.Present}
	if c.version >= mqtt.V5 {
		ack.Properties = c.capabilities(p, assigned)
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.end != nil {
		return errEnded
	}
	if c.sendLocked(ack); c.out.end != nil {
		return errEnded
	}
	c.accepted = true
	if newer := c.grant.Load(); newer != grant {
		c.adoptLater()
	}
	c.out.wake = true
	c.releaseLocked()
	if c.b.log.Enabled(c.ctx, slog.LevelDebug) {
		c.log().Debug("connected", "version", c.version.String(), "present", claimed.Present)
	}
	return nil
}

// capabilities returns what CONNACK tells an MQTT 5 client.
func (c *conn) capabilities(p *mqtt.Connect, assigned bool) mqtt.Properties {
	grant := c.grant.Load()
	q := mqtt.Properties{
		MaximumPacketSize: mqtt.Some(c.maxPacket),
		TopicAliasMaximum: mqtt.Some(uint16(c.b.cfg.TopicAliases)),
	}
	if c.quota < mqtt.DefaultReceiveMaximum {
		q.ReceiveMaximum = mqtt.Some(uint16(c.quota))
	}
	if expiry := uint32(c.expiry / time.Second); expiry != p.Properties.SessionExpiry.Or(0) {
		q.SessionExpiry = mqtt.Some(expiry)
	}
	if !grant.Retain() {
		q.RetainAvailable = mqtt.Some(false)
	}
	if assigned {
		q.AssignedClientID = mqtt.Some(grant.Ref().Client) // [MQTT-3.2.2-16]
	}
	if ka := uint16(c.keepAlive / time.Second); ka != p.KeepAlive {
		q.ServerKeepAlive = mqtt.Some(ka)
	}
	if e := c.enhanced; e != nil {
		q.AuthMethod = mqtt.Some(e.method) // [MQTT-4.12.0-5]
		if len(e.last) > 0 {
			q.AuthData = e.last
		}
	}
	if p.Properties.RequestResponseInfo.Or(false) {
		if info, ok := c.responseInfo(grant); ok {
			q.ResponseInfo = mqtt.Some(info)
		}
	}
	return q
}

// responseInfo returns the beginning of topics that the client may use for
// responses to it, if there are any.
func (c *conn) responseInfo(grant *auth.Grant) (string, bool) {
	info := c.b.cfg.ResponseTopic + grant.Ref().Client + "/"
	f, err := topic.ParseFilter(info + "#")
	if err != nil {
		return "", false
	}
	if f, err = grant.ResolveFilter(f); err != nil || grant.AllowFilter(f) != nil {
		return "", false
	}
	return info, true
}

// limitLife ends the connection when the credential ends. turn is held.
func (c *conn) limitLife(end time.Time) {
	stopTimer(c.until)
	c.until = nil
	if !end.IsZero() {
		c.until = time.AfterFunc(time.Until(end), func() {
			if c.grant.Load().Ref().Expires.Equal(end) { // else it has just authenticated again
				c.end(endExpired)
			}
		})
	}
}
