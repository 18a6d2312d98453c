package mqtt

// Header is the fixed header of a packet.
type Header struct {
	Type   Type
	Flags  byte   // the low four bits of the first byte
	Length uint32 // Remaining Length: the size of the body
}

// Size returns the size of the whole packet, fixed header included.
func (h Header) Size() int { return 1 + varintSize(h.Length) + int(h.Length) }

// Frame looks for one packet at the front of buf. It returns the header, the
// body as a view into buf, and the packet's size n, which is where the next
// packet begins.
//
// n == 0 without an error means that more bytes are needed; then h is zero, or
// complete if the fixed header has arrived, so that h.Size() tells how many.
// max is the largest packet accepted, fixed header included: a larger one is
// [ErrTooLarge] before its body arrives. The flags are checked here, so the
// decoders other than Publish.Decode do not ask for them.
func Frame(buf []byte, max uint32) (h Header, body []byte, n int, err error) {
	if len(buf) == 0 {
		return h, nil, 0, nil
	}
	t, flags := Type(buf[0]>>4), buf[0]&15
	if err := checkFlags(t, flags); err != nil {
		return h, nil, 0, err
	}
	length, used, err := varint(buf[1:])
	if used == 0 || err != nil {
		return h, nil, 0, err
	}
	size := uint64(1+used) + uint64(length)
	if size > uint64(max) {
		return h, nil, 0, ErrTooLarge
	}
	if length != 0 && (t == PINGREQ || t == PINGRESP) {
		return h, nil, 0, malformed("ping: body must be empty (3.12, 3.13)")
	}
	h = Header{t, flags, length}
	if uint64(len(buf)) < size {
		return h, nil, 0, nil
	}
	return h, buf[1+used : size : size], int(size), nil
}

// checkFlags checks the flags that the packet type fixes or, in PUBLISH,
// restricts.
func checkFlags(t Type, flags byte) error {
	var want byte
	switch t {
	case PUBLISH:
		return checkPublishFlags(flags)
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		want = 2 // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
	case 0:
		return malformed("fixed header: packet type 0 is reserved (2.1.2)")
	}
	if flags != want {
		return malformed("fixed header: reserved flags have a wrong value [MQTT-2.1.3-1]")
	}
	return nil
}

func checkPublishFlags(flags byte) error {
	switch flags & 6 {
	case 6:
		return malformed("publish: QoS must not be 3 [MQTT-3.3.1-4]")
	case 0:
		if flags&8 != 0 {
			return malformed("publish: DUP must be 0 with QoS 0 [MQTT-3.3.1-2]")
		}
	}
	return nil
}
