package mqtt

// Pingreq is a PINGREQ packet. It has no body, which [Frame] checks.
type Pingreq struct{}

// Append writes the packet.
func (*Pingreq) Append(dst []byte, _ Version) []byte { return append(dst, byte(PINGREQ)<<4, 0) }
