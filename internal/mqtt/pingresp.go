package mqtt

// Pingresp is a PINGRESP packet. It has no body, which [Frame] checks.
type Pingresp struct{}

// Append writes the packet.
func (*Pingresp) Append(dst []byte, _ Version) []byte { return append(dst, byte(PINGRESP)<<4, 0) }
