package embedded

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/topic"
)

// A Sealer encrypts what is stored of messages, with the key of one
// organisation. The additional data must be the same to open what was sealed.
// It is used by many goroutines at a time.
type Sealer interface {
	Seal(dst, plaintext, additional []byte) []byte
	Open(dst, sealed, additional []byte) ([]byte, error)
}

// What a sealed blob is. It is bound into the seal, as are the organisation and
// the message's number, so that no blob opens in another's place.
const (
	sealMessage = "keepmq message 1"
	sealWill    = "keepmq will 1"
)

func additional(what string, org auth.OrgID, n uint64) []byte {
	return appendAdditional(make([]byte, 0, 64), what, org, n)
}

func appendAdditional(dst []byte, what string, org auth.OrgID, n uint64) []byte {
	dst = append(dst, what...)
	dst = append(dst, 0)
	dst = appendText(dst, string(org))
	return binary.BigEndian.AppendUint64(dst, n)
}

const (
	messageQoS    = 3
	messageRetain = 4
)

// appendMessage writes what is sealed of a message.
func appendMessage(dst []byte, m *engine.Message) []byte {
	dst = append(dst, recordVersion, m.QoS&messageQoS|flag(m.Retain, messageRetain))
	dst = binary.AppendUvarint(dst, uint64(millis(m.Expires)))
	dst = appendText(dst, m.Topic.String())
	dst = appendPrincipal(dst, m.From)
	dst = appendText(dst, m.Properties)
	return append(dst, m.Payload...)
}

// parseMessage reads a message, of which payload and properties are views of b.
func parseMessage(org auth.OrgID, b []byte) (*engine.Message, error) {
	r := reader{b: b}
	r.version()
	f := r.byte()
	m := &engine.Message{Org: org, QoS: f & messageQoS, Retain: f&messageRetain != 0}
	m.Expires = fromMillis(r.int64())
	name := r.text()
	m.From = r.principal()
	props := r.bytes()
	if r.err != nil {
		return nil, r.err
	}
	m.Payload = r.b
	var err error
	if m.Topic, err = topic.ParseName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if m.Properties, err = mqtt.ParseCarried(props); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	return m, nil
}

// willVersion is that of a will with an address. Those before have none.
const willVersion = recordVersion + 1

// appendWill writes what is sealed of a will.
func appendWill(dst []byte, w *engine.Will) []byte {
	dst = append(dst, willVersion)
	dst = binary.AppendUvarint(dst, uint64(w.Delay))
	dst = appendPrincipal(dst, w.Ref.Principal)
	dst = appendText(dst, w.Ref.Client)
	dst = appendText(dst, w.Ref.UID)
	dst = appendText(dst, w.Ref.Credential)
	dst = binary.AppendUvarint(dst, uint64(millis(w.Ref.Expires)))
	dst = appendText(dst, w.Ref.Address.AsSlice())
	return appendMessage(dst, &w.Message)
}

func parseWill(id engine.SessionID, b []byte) (*engine.Will, error) {
	r := reader{b: b}
	version := r.upto(willVersion)
	w := &engine.Will{Session: id, Delay: time.Duration(r.int64())}
	w.Ref.Principal = r.principal()
	w.Ref.Client = r.text()
	w.Ref.UID = r.text()
	w.Ref.Credential = r.text()
	w.Ref.Expires = fromMillis(r.int64())
	if version >= willVersion {
		w.Ref.Address, _ = netip.AddrFromSlice(r.bytes()) // none: not known
	}
	if r.err != nil {
		return nil, r.err
	}
	m, err := parseMessage(id.Owner.Org, r.b)
	if err != nil {
		return nil, err
	}
	w.Message = *m
	return w, nil
}

// cloneMessage returns a copy that shares no memory that can change.
func cloneMessage(m *engine.Message) *engine.Message {
	c := *m
	c.Payload = append([]byte(nil), m.Payload...)
	c.Properties = m.Properties.Clone()
	return &c
}
