package mqtt

import "encoding/binary"

// Connect is a CONNECT packet, copied out of the body.
type Connect struct {
	Version    Version
	CleanStart bool // Clean Session before MQTT 5
	KeepAlive  uint16
	// ClientID may be empty; whether the server then assigns one is its business.
	ClientID string
	Will     *Will       // nil: none
	Username Opt[string] // required for a password before MQTT 5
	Password Credential  // nil: none
	// Properties may hold Session Expiry Interval, Receive Maximum, Maximum
	// Packet Size, Topic Alias Maximum, Request Response and Problem
	// Information, Authentication Method and Data, and User Properties.
	Properties Properties
}

// Connect flags (3.1.2.3).
const (
	connectReserved   = 0x01
	connectClean      = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80
)

// ConnectVersion returns the version that the body of a CONNECT announces. Use
// it to word the answer to a CONNECT that does not decode. An unknown name or
// level is UnsupportedProtocolVersion [MQTT-3.1.2-1] [MQTT-3.1.2-2]; levels
// with the bridge bit of some brokers are unknown.
func ConnectVersion(body []byte) (Version, error) {
	c := cursor{b: body}
	return c.version()
}

func (c *cursor) version() (Version, error) {
	name := c.binary("protocol name")
	if c.err != nil {
		return 0, c.err
	}
	old := string(name) == "MQIsdp"
	if !old && string(name) != "MQTT" {
		return 0, &Error{UnsupportedProtocolVersion, "protocol name: must be MQTT [MQTT-3.1.2-1]"}
	}
	v := Version(c.uint8("protocol version"))
	switch {
	case c.err != nil:
		return 0, c.err
	case old && v == V31, !old && (v == V311 || v == V5):
		return v, nil
	}
	return 0, &Error{UnsupportedProtocolVersion, "protocol version: not one this server speaks [MQTT-3.1.2-2]"}
}

// DecodeConnect reads the body of a CONNECT, whose version it finds there.
func DecodeConnect(body []byte) (*Connect, error) {
	c := cursor{b: body}
	v, err := c.version()
	if err != nil {
		return nil, err
	}
	p := &Connect{Version: v}
	flags := c.uint8("connect flags")
	p.KeepAlive = c.uint16("keep alive")
	if c.err != nil {
		return nil, c.err
	}
	if err := checkConnectFlags(flags, v); err != nil {
		return nil, err
	}
	p.CleanStart = flags&connectClean != 0
	if v >= V5 {
		section := c.section()
		if c.err != nil {
			return nil, c.err
		}
		if err := p.decodeProperties(section); err != nil {
			return nil, err
		}
	}
	p.ClientID = string(c.name("client identifier"))
	if c.err == nil && flags&connectWill != 0 {
		if p.Will, err = decodeWill(&c, flags, v); err != nil {
			return nil, err
		}
	}
	p.decodeCredentials(&c, flags)
	if err := c.end("connect"); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Connect) decodeProperties(section []byte) error {
	if err := p.Properties.decode(section, inConnect); err != nil {
		return err
	}
	if p.Properties.AuthData != nil && !p.Properties.AuthMethod.ok {
		return violation("authentication data: must not appear without a method (3.1.2.11.10)")
	}
	return nil
}

// decodeCredentials reads what the flags announce. In 3.1 the length goes
// before the flags: a packet that ends before the user name or the password
// simply has none.
func (p *Connect) decodeCredentials(c *cursor, flags byte) {
	missing := func() bool { return p.Version == V31 && len(c.b) == 0 }
	if flags&connectUsername != 0 && !missing() {
		p.Username = Some(string(c.name("user name")))
	}
	if flags&connectPassword != 0 && !missing() {
		p.Password = copied(c.binary("password"))
	}
}

func checkConnectFlags(flags byte, v Version) error {
	switch {
	case flags&connectReserved != 0:
		return malformed("connect flags: reserved bit must be 0 [MQTT-3.1.2-3]")
	case flags&connectWillQoS == connectWillQoS:
		return malformed("connect flags: will QoS must not be 3 [MQTT-3.1.2-12]")
	case flags&connectWill == 0 && flags&connectWillQoS != 0:
		return malformed("connect flags: will QoS must be 0 without a will [MQTT-3.1.2-11]")
	case flags&connectWill == 0 && flags&connectWillRetain != 0:
		return malformed("connect flags: will retain must be 0 without a will [MQTT-3.1.2-13]")
	case v < V5 && flags&connectPassword != 0 && flags&connectUsername == 0:
		return malformed("connect flags: no password without a user name (3.1.1) [MQTT-3.1.2-22]")
	}
	return nil
}

// Append writes the packet as its own Version says; v counts only if that is
// zero.
func (p *Connect) Append(dst []byte, v Version) []byte {
	if p.Version != 0 {
		v = p.Version
	}
	dst, m := begin(dst, CONNECT, 0)
	name := "MQTT"
	if v == V31 {
		name = "MQIsdp"
	}
	dst = appendText(dst, name)
	dst = append(dst, byte(v), p.flags())
	dst = binary.BigEndian.AppendUint16(dst, p.KeepAlive)
	if v >= V5 {
		dst = p.Properties.appendSection(dst, inConnect)
	}
	dst = appendText(dst, p.ClientID)
	if p.Will != nil {
		dst = p.Will.append(dst, v)
	}
	if p.Username.ok {
		dst = appendText(dst, p.Username.v)
	}
	if p.Password != nil {
		dst = appendText(dst, p.Password)
	}
	return seal(dst, m)
}

func (p *Connect) flags() byte {
	f := flag(p.CleanStart, connectClean) | flag(p.Username.ok, connectUsername) | flag(p.Password != nil, connectPassword)
	if p.Will != nil {
		f |= connectWill | p.Will.QoS<<3 | flag(p.Will.Retain, connectWillRetain)
	}
	return f
}
