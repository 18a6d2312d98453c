package mqtt

import "fmt"

// ReasonCode is the outcome an MQTT 5 packet reports. In a 3.1.1 SUBACK the
// codes 0, 1, 2 and 0x80 have the same meaning; in a 3.1 or 3.1.1 CONNACK the
// byte is a [ReturnCode] instead.
type ReasonCode byte

// The reason codes of MQTT 5, table 2-6. Success is also Normal disconnection
// and Granted QoS 0.
const (
	Success                             ReasonCode = 0x00
	NormalDisconnection                 ReasonCode = 0x00
	GrantedQoS0                         ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	Reauthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// IsError reports whether c means that the request failed.
func (c ReasonCode) IsError() bool { return c >= 0x80 }

// String returns the code's name, or its number if it has none.
func (c ReasonCode) String() string {
	if int(c) < len(reasons) && reasons[c].name != "" {
		return reasons[c].name
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// ValidIn reports whether MQTT 5 allows c in packets of type t. It does not
// ask which side sends the packet.
func (c ReasonCode) ValidIn(t Type) bool {
	return int(c) < len(reasons) && reasons[c].in&at(t) != 0
}

// at is the bit of a packet type in a set of them. Bit 0, which no type uses,
// stands for the will inside CONNECT.
func at(t Type) uint16 { return 1 << (t & 15) }

// Sets of packet types that share reason codes.
const (
	inConnack    = 1 << CONNACK
	inPub        = 1<<PUBACK | 1<<PUBREC
	inRel        = 1<<PUBREL | 1<<PUBCOMP
	inSuback     = 1 << SUBACK
	inUnsuback   = 1 << UNSUBACK
	inDisconnect = 1 << DISCONNECT
	inAuth       = 1 << AUTH
	inAnswers    = inConnack | inPub | inSuback | inUnsuback | inDisconnect
	inClosing    = inConnack | inDisconnect
)

// reasons holds the name of each code and the packets that may carry it.
var reasons = [...]struct {
	name string
	in   uint16
}{
	Success:                             {"Success", inAnswers | inRel | inAuth},
	GrantedQoS1:                         {"Granted QoS 1", inSuback},
	GrantedQoS2:                         {"Granted QoS 2", inSuback},
	DisconnectWithWill:                  {"Disconnect with Will Message", inDisconnect},
	NoMatchingSubscribers:               {"No matching subscribers", inPub},
	NoSubscriptionExisted:               {"No subscription existed", inUnsuback},
	ContinueAuthentication:              {"Continue authentication", inAuth},
	Reauthenticate:                      {"Re-authenticate", inAuth},
	UnspecifiedError:                    {"Unspecified error", inAnswers},
	MalformedPacket:                     {"Malformed Packet", inClosing},
	ProtocolError:                       {"Protocol Error", inClosing},
	ImplementationSpecificError:         {"Implementation specific error", inAnswers},
	UnsupportedProtocolVersion:          {"Unsupported Protocol Version", inConnack},
	ClientIdentifierNotValid:            {"Client Identifier not valid", inConnack},
	BadUserNameOrPassword:               {"Bad User Name or Password", inConnack},
	NotAuthorized:                       {"Not authorized", inAnswers},
	ServerUnavailable:                   {"Server unavailable", inConnack},
	ServerBusy:                          {"Server busy", inClosing},
	Banned:                              {"Banned", inConnack},
	ServerShuttingDown:                  {"Server shutting down", inDisconnect},
	BadAuthenticationMethod:             {"Bad authentication method", inClosing},
	KeepAliveTimeout:                    {"Keep Alive timeout", inDisconnect},
	SessionTakenOver:                    {"Session taken over", inDisconnect},
	TopicFilterInvalid:                  {"Topic Filter invalid", inSuback | inUnsuback | inDisconnect},
	TopicNameInvalid:                    {"Topic Name invalid", inClosing | inPub},
	PacketIdentifierInUse:               {"Packet Identifier in use", inPub | inSuback | inUnsuback},
	PacketIdentifierNotFound:            {"Packet Identifier not found", inRel},
	ReceiveMaximumExceeded:              {"Receive Maximum exceeded", inDisconnect},
	TopicAliasInvalid:                   {"Topic Alias invalid", inDisconnect},
	PacketTooLarge:                      {"Packet too large", inClosing},
	MessageRateTooHigh:                  {"Message rate too high", inDisconnect},
	QuotaExceeded:                       {"Quota exceeded", inClosing | inPub | inSuback},
	AdministrativeAction:                {"Administrative action", inDisconnect},
	PayloadFormatInvalid:                {"Payload format invalid", inClosing | inPub},
	RetainNotSupported:                  {"Retain not supported", inClosing},
	QoSNotSupported:                     {"QoS not supported", inClosing},
	UseAnotherServer:                    {"Use another server", inClosing},
	ServerMoved:                         {"Server moved", inClosing},
	SharedSubscriptionsNotSupported:     {"Shared Subscriptions not supported", inSuback | inDisconnect},
	ConnectionRateExceeded:              {"Connection rate exceeded", inClosing},
	MaximumConnectTime:                  {"Maximum connect time", inDisconnect},
	SubscriptionIdentifiersNotSupported: {"Subscription Identifiers not supported", inSuback | inDisconnect},
	WildcardSubscriptionsNotSupported:   {"Wildcard Subscriptions not supported", inSuback | inDisconnect},
}

// ReturnCode is the outcome a 3.1 or 3.1.1 CONNACK reports.
type ReturnCode byte

// The return codes of MQTT 3.1.1, table 3.1.
const (
	ReturnAccepted           ReturnCode = 0
	ReturnUnacceptableLevel  ReturnCode = 1
	ReturnIdentifierRejected ReturnCode = 2
	ReturnServerUnavailable  ReturnCode = 3
	ReturnBadCredentials     ReturnCode = 4
	ReturnNotAuthorized      ReturnCode = 5
)

var returnNames = [...]string{
	"accepted", "unacceptable protocol version", "identifier rejected",
	"server unavailable", "bad user name or password", "not authorized",
}

// String returns the code's name, or its number if it has none.
func (c ReturnCode) String() string {
	if int(c) < len(returnNames) {
		return returnNames[c]
	}
	return fmt.Sprintf("return code %d", byte(c))
}
