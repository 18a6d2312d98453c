package mqtt

// Limits the protocol itself sets. A broker's own limits are lower and are
// configured, not declared here.
const (
	// MaxRemainingLength is the largest Remaining Length, and the largest value
	// of any variable byte integer.
	MaxRemainingLength = 268_435_455
	// MaxPacketSize is the size of the largest packet with its fixed header.
	// Pass it where a maximum is asked for and none applies.
	MaxPacketSize = MaxRemainingLength + 5
	// MaxString is the longest UTF-8 string or binary field in bytes.
	MaxString = 65_535
	// MaxPacketID is the largest packet identifier; the smallest is 1.
	MaxPacketID = 65_535
	// MaxTopicAlias is the largest topic alias; the smallest is 1.
	MaxTopicAlias = 65_535
	// MaxSubscriptionID is the largest subscription identifier; the smallest is 1.
	MaxSubscriptionID = 268_435_455
	// MaxClientID31 is the longest client identifier MQTT 3.1 allows.
	MaxClientID31 = 23
	// MaxQoS is the highest quality of service.
	MaxQoS = 2
)

// Values that hold when the property is absent, and values with a meaning.
const (
	// DefaultReceiveMaximum holds when Receive Maximum is absent.
	DefaultReceiveMaximum = 65_535
	// SessionNeverExpires is the Session Expiry Interval that means: keep it.
	SessionNeverExpires = 0xFFFFFFFF
)

// MinPacketSize is the size of the smallest packet: a fixed header alone.
const MinPacketSize = 2
