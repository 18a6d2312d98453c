package mqtt

// Property identifiers, table 2-4.
const (
	propPayloadFormat       = 0x01
	propMessageExpiry       = 0x02
	propContentType         = 0x03
	propResponseTopic       = 0x08
	propCorrelationData     = 0x09
	propSubscriptionID      = 0x0B
	propSessionExpiry       = 0x11
	propAssignedClientID    = 0x12
	propServerKeepAlive     = 0x13
	propAuthMethod          = 0x15
	propAuthData            = 0x16
	propRequestProblemInfo  = 0x17
	propWillDelay           = 0x18
	propRequestResponseInfo = 0x19
	propResponseInfo        = 0x1A
	propServerReference     = 0x1C
	propReasonString        = 0x1F
	propReceiveMaximum      = 0x21
	propTopicAliasMaximum   = 0x22
	propTopicAlias          = 0x23
	propMaximumQoS          = 0x24
	propRetainAvailable     = 0x25
	propUserProperty        = 0x26
	propMaximumPacketSize   = 0x27
	propWildcardAvailable   = 0x28
	propSubIDAvailable      = 0x29
	propSharedAvailable     = 0x2A
)

// kind is how a property's value is written.
type kind byte

const (
	kindBit    kind = iota // one byte, 0 or 1: so are all byte properties of MQTT 5
	kindUint16             // two bytes
	kindUint32             // four bytes
	kindVarint             // variable byte integer
	kindText               // UTF-8 string
	kindTopic              // UTF-8 string that is a topic name
	kindBinary             // binary data
	kindPair               // UTF-8 string pair
)

// Sets of places a property may stand in; inWill is the will inside CONNECT.
const (
	inWill    = 1 << 0
	inConnect = 1 << CONNECT
	inPublish = 1 << PUBLISH
	inMessage = inPublish | inWill
	inSub     = 1 << SUBSCRIBE
	inUnsub   = 1 << UNSUBSCRIBE
	inReplies = inConnack | inPub | inRel | inSuback | inUnsuback | inDisconnect | inAuth
	inAll     = inConnect | inMessage | inSub | inUnsub | inReplies
)

// propertyTable says what each identifier means: table 2-4 and the sections
// it points to. An entry without a name is not a property.
var propertyTable = [...]struct {
	name    string
	kind    kind
	in      uint16
	nonzero bool // 0 is a Protocol Error
}{
	propPayloadFormat:       {"payload format indicator", kindBit, inMessage, false},
	propMessageExpiry:       {"message expiry interval", kindUint32, inMessage, false},
	propContentType:         {"content type", kindText, inMessage, false},
	propResponseTopic:       {"response topic", kindTopic, inMessage, false},
	propCorrelationData:     {"correlation data", kindBinary, inMessage, false},
	propSubscriptionID:      {"subscription identifier", kindVarint, inPublish | inSub, true},
	propSessionExpiry:       {"session expiry interval", kindUint32, inConnect | inConnack | inDisconnect, false},
	propAssignedClientID:    {"assigned client identifier", kindText, inConnack, false},
	propServerKeepAlive:     {"server keep alive", kindUint16, inConnack, false},
	propAuthMethod:          {"authentication method", kindText, inConnect | inConnack | inAuth, false},
	propAuthData:            {"authentication data", kindBinary, inConnect | inConnack | inAuth, false},
	propRequestProblemInfo:  {"request problem information", kindBit, inConnect, false},
	propWillDelay:           {"will delay interval", kindUint32, inWill, false},
	propRequestResponseInfo: {"request response information", kindBit, inConnect, false},
	propResponseInfo:        {"response information", kindText, inConnack, false},
	propServerReference:     {"server reference", kindText, inConnack | inDisconnect, false},
	propReasonString:        {"reason string", kindText, inReplies, false},
	propReceiveMaximum:      {"receive maximum", kindUint16, inConnect | inConnack, true},
	propTopicAliasMaximum:   {"topic alias maximum", kindUint16, inConnect | inConnack, false},
	propTopicAlias:          {"topic alias", kindUint16, inPublish, true},
	propMaximumQoS:          {"maximum QoS", kindBit, inConnack, false},
	propRetainAvailable:     {"retain available", kindBit, inConnack, false},
	propUserProperty:        {"user property", kindPair, inAll, false},
	propMaximumPacketSize:   {"maximum packet size", kindUint32, inConnect | inConnack, true},
	propWildcardAvailable:   {"wildcard subscription available", kindBit, inConnack, false},
	propSubIDAvailable:      {"subscription identifier available", kindBit, inConnack, false},
	propSharedAvailable:     {"shared subscription available", kindBit, inConnack, false},
}

// carriedSet holds the properties that a message carries from its publisher to
// every receiver unaltered.
const carriedSet uint64 = 1<<propPayloadFormat | 1<<propContentType | 1<<propResponseTopic |
	1<<propCorrelationData | 1<<propUserProperty

// property is one decoded property. Which fields are set depends on its kind.
type property struct {
	id   uint32
	num  uint32 // numbers, and kindBit as 0 or 1
	data []byte // text, topic, binary, and the key of a pair
	val  []byte // the value of a pair
}

// propertyReader reads a property section and checks every rule that does not
// depend on other properties.
type propertyReader struct {
	c    cursor
	in   uint16 // the place, one bit
	seen uint64 // one bit per identifier
}

// next reads one property into p. It returns false at the end of the section
// and after a failure, which is then in r.c.err.
func (r *propertyReader) next(p *property) bool {
	if len(r.c.b) == 0 {
		return false
	}
	*p = property{id: r.c.varint("property identifier")}
	if r.c.err != nil || !r.admit(p.id) {
		return false
	}
	e := &propertyTable[p.id]
	switch e.kind {
	case kindBit:
		if p.num = uint32(r.c.uint8(e.name)); p.num > 1 {
			r.c.fail(violation(e.name + ": must be 0 or 1 (2.2.2.2)"))
		}
	case kindUint16:
		p.num = uint32(r.c.uint16(e.name))
	case kindUint32:
		p.num = r.c.uint32(e.name)
	case kindVarint:
		p.num = r.c.varint(e.name)
	case kindText:
		p.data = r.c.text(e.name)
	case kindTopic:
		if p.data = r.c.topic(e.name); len(p.data) == 0 && r.c.err == nil {
			r.c.fail(violation(e.name + ": must not be empty [MQTT-4.7.3-1]"))
		}
	case kindBinary:
		p.data = r.c.binary(e.name)
	case kindPair:
		p.data = r.c.text(e.name)
		p.val = r.c.text(e.name)
	}
	if e.nonzero && p.num == 0 && r.c.err == nil {
		r.failZero(p.id)
	}
	return r.c.err == nil
}

// admit checks that the identifier is known, belongs here, and is not a
// forbidden repetition.
func (r *propertyReader) admit(id uint32) bool {
	if id >= uint32(len(propertyTable)) || propertyTable[id].name == "" {
		r.c.fail(malformed("property identifier: unknown (2.2.2.2)"))
		return false
	}
	if propertyTable[id].in&r.in == 0 {
		r.c.fail(malformed(propertyTable[id].name + ": not allowed in this packet (2.2.2.2)"))
		return false
	}
	repeatable := id == propUserProperty || id == propSubscriptionID && r.in == inPublish
	if r.seen&(1<<id) != 0 && !repeatable {
		r.c.fail(violation(propertyTable[id].name + ": must not appear twice (2.2.2.2)"))
		return false
	}
	r.seen |= 1 << id
	return true
}

func (r *propertyReader) failZero(id uint32) {
	if id == propTopicAlias {
		r.c.fail(&Error{TopicAliasInvalid, "topic alias: must not be 0 [MQTT-3.3.2-8]"})
		return
	}
	r.c.fail(violation(propertyTable[id].name + ": must not be 0 (3.1.2.11, 3.2.2.3, 3.8.2.1)"))
}
