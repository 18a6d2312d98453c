package client

import (
	"crypto/tls"
	"math"
	"net"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/secret"
)

// Never as SessionExpiry keeps the session until it is ended on purpose.
const Never = time.Duration(math.MaxInt64)

// Values used where a field of Config is zero.
const (
	defaultKeepAlive = time.Minute
	defaultBuffer    = 256
	defaultMaxPacket = 16 << 20
)

// Config says where and how to connect.
type Config struct {
	Address string       // host:port
	TLS     *tls.Config  // required; at least TLS 1.2 is used whatever it says
	Version mqtt.Version // 0: MQTT 5

	ClientID string
	Username string        // "": none
	Password secret.String // revealing "": none

	CleanStart    bool          // Clean Session before MQTT 5
	SessionExpiry time.Duration // MQTT 5, whole seconds; Never: no expiry
	KeepAlive     time.Duration // whole seconds; 0: one minute; negative: none
	Will          *mqtt.Will    // nil: none

	// ReceiveMaximum bounds the QoS 1 and 2 messages the server sends ahead of
	// Receive (MQTT 5). 0: Buffer.
	ReceiveMaximum uint16
	// Buffer is how many messages wait for Receive. When it is full the client
	// stops reading, answers to its own packets included. 0: 256, and never
	// less than ReceiveMaximum.
	Buffer int
	// MaxPacketSize is the largest packet accepted. 0: 16 MiB.
	MaxPacketSize uint32
	// TopicAliasMaximum is how many topic aliases the server may use (MQTT 5).
	TopicAliasMaximum uint16
	// Properties of the CONNECT (MQTT 5): user properties, Request Response and
	// Problem Information. Those that have a field above are set from it.
	Properties mqtt.Properties

	// Session carries what QoS 2 must remember from one connection to the next.
	// Hand the same one to each Dial of a persistent session; nil: a new one.
	Session *Session
}

func (c Config) withDefaults() Config {
	if c.Version == 0 {
		c.Version = mqtt.V5
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = defaultKeepAlive
	}
	if c.Buffer <= 0 {
		c.Buffer = defaultBuffer
	}
	c.Buffer = max(c.Buffer, int(c.ReceiveMaximum))
	if c.ReceiveMaximum == 0 {
		c.ReceiveMaximum = uint16(min(c.Buffer, mqtt.DefaultReceiveMaximum))
	}
	if c.MaxPacketSize == 0 {
		c.MaxPacketSize = defaultMaxPacket
	}
	if c.Session == nil {
		c.Session = new(Session)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.TLS == nil:
		return errs.E(errs.Invalid, "a TLS configuration is required: there are no connections without TLS")
	case !c.Version.Valid():
		return errs.E(errs.Invalid, "MQTT version %v is unknown", c.Version)
	case len(c.ClientID) > mqtt.MaxString || len(c.Username) > mqtt.MaxString || len(c.Password.Reveal()) > mqtt.MaxString:
		return errs.E(errs.Invalid, "client id, user name and password have at most %d bytes", mqtt.MaxString)
	case c.Version < mqtt.V5 && c.Username == "" && c.Password.Reveal() != "":
		return errs.E(errs.Invalid, "MQTT %v has no password without a user name", c.Version)
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return errs.Wrap(errs.Invalid, err, "the address must be host:port")
	}
	if w := c.Will; w != nil {
		return checkMessage(w.Topic, w.QoS)
	}
	return nil
}

func (c Config) tlsConfig() *tls.Config {
	t := c.TLS.Clone()
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	if t.ServerName == "" {
		t.ServerName, _, _ = net.SplitHostPort(c.Address)
	}
	return t
}

// keepAlive returns whole seconds, rounded up: a rounded-down one could be 0,
// which means none.
func (c Config) keepAlive() uint16 { return uint16(min(seconds(c.KeepAlive), math.MaxUint16)) }

func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min((int64(d-1)/int64(time.Second))+1, mqtt.SessionNeverExpires))
}

func (c Config) connect() *mqtt.Connect {
	p := &mqtt.Connect{
		Version: c.Version, CleanStart: c.CleanStart, KeepAlive: c.keepAlive(), ClientID: c.ClientID, Will: c.Will,
		Properties: c.Properties.Clone(),
	}
	if c.Username != "" {
		p.Username = mqtt.Some(c.Username)
	}
	if s := c.Password.Reveal(); s != "" {
		p.Password = mqtt.Credential(s)
	}
	q := &p.Properties
	if s := seconds(c.SessionExpiry); s > 0 {
		q.SessionExpiry = mqtt.Some(s)
	}
	q.ReceiveMaximum = mqtt.Some(c.ReceiveMaximum)
	q.MaximumPacketSize = mqtt.Some(c.MaxPacketSize)
	if c.TopicAliasMaximum > 0 {
		q.TopicAliasMaximum = mqtt.Some(c.TopicAliasMaximum)
	}
	return p
}
