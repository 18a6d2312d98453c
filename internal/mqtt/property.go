package mqtt

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// UserProperty is one name and value. Names may repeat and order matters.
type UserProperty struct{ Key, Value string }

// Properties is any set of MQTT 5 properties, copied out of the packet. Which
// fields a packet may have is said at the packet; Append skips the others. In
// 3.1 and 3.1.1 there are none.
//
// CorrelationData and AuthData are absent when nil and present, if empty, when
// not nil.
type Properties struct {
	PayloadFormat   Opt[byte] // 1: the payload is UTF-8 text
	MessageExpiry   Opt[uint32]
	ContentType     Opt[string]
	ResponseTopic   Opt[string]
	CorrelationData []byte
	SubscriptionIDs []uint32
	WillDelay       Opt[uint32]
	TopicAlias      Opt[uint16]

	SessionExpiry       Opt[uint32]
	ReceiveMaximum      Opt[uint16]
	MaximumPacketSize   Opt[uint32]
	TopicAliasMaximum   Opt[uint16]
	RequestProblemInfo  Opt[bool] // absent means true
	RequestResponseInfo Opt[bool] // absent means false
	AuthMethod          Opt[string]
	AuthData            Credential

	AssignedClientID      Opt[string]
	ServerKeepAlive       Opt[uint16]
	ResponseInfo          Opt[string]
	ServerReference       Opt[string]
	MaximumQoS            Opt[byte] // 0 or 1; absent means 2
	RetainAvailable       Opt[bool] // absent means true, as in the three below
	WildcardSubscriptions Opt[bool]
	SubscriptionIDsUsable Opt[bool]
	SharedSubscriptions   Opt[bool]

	ReasonString   Opt[string]
	UserProperties []UserProperty
}

// Equal reports whether p and q hold the same properties in the same order.
func (p *Properties) Equal(q *Properties) bool {
	const in = 0xFFFF
	return bytes.Equal(p.append(nil, in), q.append(nil, in))
}

// Clone returns a copy that shares no memory that can change.
func (p *Properties) Clone() Properties {
	c := *p
	c.CorrelationData = bytes.Clone(p.CorrelationData)
	c.AuthData = bytes.Clone(p.AuthData)
	c.SubscriptionIDs = slices.Clone(p.SubscriptionIDs)
	c.UserProperties = slices.Clone(p.UserProperties)
	return c
}

// Carried returns the properties that travel with a message from publisher to
// receivers.
func (p *Properties) Carried() Carried {
	q := Properties{
		PayloadFormat: p.PayloadFormat, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
		CorrelationData: p.CorrelationData, UserProperties: p.UserProperties,
	}
	return q.append(nil, inPublish)
}

// without returns p without its diagnostics: the user properties, and the
// reason string too if reason is set.
func (p *Properties) without(reason bool) Properties {
	q := *p
	q.UserProperties = nil
	if reason {
		q.ReasonString = Opt[string]{}
	}
	return q
}

// decode reads a whole section that stands in place in.
func (p *Properties) decode(section []byte, in uint16) error {
	r := propertyReader{c: cursor{b: section}, in: in}
	var e property
	for r.next(&e) {
		p.set(&e)
	}
	return r.c.err
}

// set stores one property.
func (p *Properties) set(e *property) {
	switch e.id {
	case propPayloadFormat:
		p.PayloadFormat = Some(byte(e.num))
	case propMessageExpiry:
		p.MessageExpiry = Some(e.num)
	case propContentType:
		p.ContentType = Some(string(e.data))
	case propResponseTopic:
		p.ResponseTopic = Some(string(e.data))
	case propCorrelationData:
		p.CorrelationData = copied(e.data)
	case propSubscriptionID:
		p.SubscriptionIDs = append(p.SubscriptionIDs, e.num)
	case propSessionExpiry:
		p.SessionExpiry = Some(e.num)
	case propAssignedClientID:
		p.AssignedClientID = Some(string(e.data))
	case propServerKeepAlive:
		p.ServerKeepAlive = Some(uint16(e.num))
	case propAuthMethod:
		p.AuthMethod = Some(string(e.data))
	case propAuthData:
		p.AuthData = copied(e.data)
	case propRequestProblemInfo:
		p.RequestProblemInfo = Some(e.num == 1)
	case propWillDelay:
		p.WillDelay = Some(e.num)
	case propRequestResponseInfo:
		p.RequestResponseInfo = Some(e.num == 1)
	case propResponseInfo:
		p.ResponseInfo = Some(string(e.data))
	case propServerReference:
		p.ServerReference = Some(string(e.data))
	case propReasonString:
		p.ReasonString = Some(string(e.data))
	case propReceiveMaximum:
		p.ReceiveMaximum = Some(uint16(e.num))
	case propTopicAliasMaximum:
		p.TopicAliasMaximum = Some(uint16(e.num))
	case propTopicAlias:
		p.TopicAlias = Some(uint16(e.num))
	case propMaximumQoS:
		p.MaximumQoS = Some(byte(e.num))
	case propRetainAvailable:
		p.RetainAvailable = Some(e.num == 1)
	case propUserProperty:
		p.UserProperties = append(p.UserProperties, UserProperty{string(e.data), string(e.val)})
	case propMaximumPacketSize:
		p.MaximumPacketSize = Some(e.num)
	case propWildcardAvailable:
		p.WildcardSubscriptions = Some(e.num == 1)
	case propSubIDAvailable:
		p.SubscriptionIDsUsable = Some(e.num == 1)
	case propSharedAvailable:
		p.SharedSubscriptions = Some(e.num == 1)
	}
}

// copied returns a copy that is never nil, which would mean absent.
func copied(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// appendSection writes the section with its length [MQTT-2.2.2-1].
func (p *Properties) appendSection(dst []byte, in uint16) []byte {
	dst, m := mark(dst)
	return seal(p.append(dst, in), m)
}

// append writes the properties that may stand in place in, by identifier.
func (p *Properties) append(dst []byte, in uint16) []byte {
	w := propertyWriter{dst, in}
	w.bit(propPayloadFormat, p.PayloadFormat)
	w.uint32(propMessageExpiry, p.MessageExpiry)
	w.text(propContentType, p.ContentType)
	w.text(propResponseTopic, p.ResponseTopic)
	w.binary(propCorrelationData, p.CorrelationData)
	for _, id := range p.SubscriptionIDs {
		if w.begin(propSubscriptionID) {
			w.dst = appendVarint(w.dst, id)
		}
	}
	w.uint32(propSessionExpiry, p.SessionExpiry)
	w.text(propAssignedClientID, p.AssignedClientID)
	w.uint16(propServerKeepAlive, p.ServerKeepAlive)
	w.text(propAuthMethod, p.AuthMethod)
	w.binary(propAuthData, p.AuthData)
	w.flag(propRequestProblemInfo, p.RequestProblemInfo)
	w.uint32(propWillDelay, p.WillDelay)
	w.flag(propRequestResponseInfo, p.RequestResponseInfo)
	w.text(propResponseInfo, p.ResponseInfo)
	w.text(propServerReference, p.ServerReference)
	w.text(propReasonString, p.ReasonString)
	w.uint16(propReceiveMaximum, p.ReceiveMaximum)
	w.uint16(propTopicAliasMaximum, p.TopicAliasMaximum)
	w.uint16(propTopicAlias, p.TopicAlias)
	w.bit(propMaximumQoS, p.MaximumQoS)
	w.flag(propRetainAvailable, p.RetainAvailable)
	for _, u := range p.UserProperties {
		if w.begin(propUserProperty) {
			w.dst = appendText(appendText(w.dst, u.Key), u.Value)
		}
	}
	w.uint32(propMaximumPacketSize, p.MaximumPacketSize)
	w.flag(propWildcardAvailable, p.WildcardSubscriptions)
	w.flag(propSubIDAvailable, p.SubscriptionIDsUsable)
	w.flag(propSharedAvailable, p.SharedSubscriptions)
	return w.dst
}

// propertyWriter appends the properties allowed in one place.
type propertyWriter struct {
	dst []byte
	in  uint16
}

// begin writes the identifier if the property may stand here.
func (w *propertyWriter) begin(id byte) bool {
	if propertyTable[id].in&w.in == 0 {
		return false
	}
	w.dst = append(w.dst, id)
	return true
}

func (w *propertyWriter) bit(id byte, o Opt[byte]) {
	if v, ok := o.Get(); ok && w.begin(id) {
		w.dst = append(w.dst, v)
	}
}

func (w *propertyWriter) flag(id byte, o Opt[bool]) {
	if v, ok := o.Get(); ok && w.begin(id) {
		w.dst = append(w.dst, flag(v, 1))
	}
}

func (w *propertyWriter) uint16(id byte, o Opt[uint16]) {
	if v, ok := o.Get(); ok && w.begin(id) {
		w.dst = binary.BigEndian.AppendUint16(w.dst, v)
	}
}

func (w *propertyWriter) uint32(id byte, o Opt[uint32]) {
	if v, ok := o.Get(); ok && w.begin(id) {
		w.dst = binary.BigEndian.AppendUint32(w.dst, v)
	}
}

func (w *propertyWriter) text(id byte, o Opt[string]) {
	if v, ok := o.Get(); ok && w.begin(id) {
		w.dst = appendText(w.dst, v)
	}
}

func (w *propertyWriter) binary(id byte, v []byte) {
	if v != nil && w.begin(id) {
		w.dst = appendText(w.dst, v)
	}
}

// flag returns bit if v is set.
func flag(v bool, bit byte) byte {
	if v {
		return bit
	}
	return 0
}
