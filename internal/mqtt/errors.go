package mqtt

// Error says which rule of the protocol a packet breaks. Every error of
// [Frame] and of the decoders is an *Error.
type Error struct {
	// Code is the MQTT 5 reason code to close the connection with. Earlier
	// versions cannot carry it; there the connection is closed in silence.
	Code ReasonCode
	// Msg names the field and the rule and cites the clause. It holds nothing
	// that was received, so it may be logged and sent as a Reason String.
	Msg string
}

// Error returns the code's name and the message.
func (e *Error) Error() string { return "mqtt: " + e.Code.String() + ": " + e.Msg }

// ErrTooLarge is what [Frame] returns for a packet above the caller's maximum,
// as soon as the packet's length is known.
var ErrTooLarge = &Error{PacketTooLarge, "packet exceeds the maximum packet size [MQTT-3.2.2-15]"}

// malformed makes an error for bytes that cannot be parsed.
func malformed(msg string) error { return &Error{MalformedPacket, msg} }

// violation makes an error for bytes that parse but break a rule.
func violation(msg string) error { return &Error{ProtocolError, msg} }
