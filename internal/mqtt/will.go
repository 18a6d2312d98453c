package mqtt

// Will is the message a CONNECT asks the server to publish when the connection
// ends badly. The fields from Delay on are empty before MQTT 5.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool

	Delay   uint32      // Will Delay Interval, in seconds
	Expiry  Opt[uint32] // Message Expiry Interval, in seconds from publication
	Carried Carried     // what the published message carries [MQTT-3.1.3-10]
}

// Properties returns all properties of the will, decoded and copied.
func (w *Will) Properties() Properties {
	q := w.Carried.Properties()
	q.MessageExpiry = w.Expiry
	if w.Delay != 0 {
		q.WillDelay = Some(w.Delay)
	}
	return q
}

// SetProperties replaces all properties of the will by those in q that a will
// may have.
func (w *Will) SetProperties(q *Properties) {
	w.Delay = q.WillDelay.Or(0)
	w.Expiry = q.MessageExpiry
	w.Carried = q.Carried()
}

// decodeWill reads the will fields of the payload [MQTT-3.1.3-1].
func decodeWill(c *cursor, flags byte, v Version) (*Will, error) {
	w := &Will{QoS: flags >> 3 & 3, Retain: flags&connectWillRetain != 0}
	if v >= V5 {
		var m messageProperties
		if err := m.decode(c.section(), inWill); err != nil {
			return nil, err
		}
		w.Delay, w.Expiry, w.Carried = m.delay, m.expiry, m.carried.Clone()
	}
	w.Topic = string(c.topic("will topic"))
	w.Payload = copied(c.binary("will payload"))
	if c.err == nil && w.Topic == "" {
		return nil, violation("will topic: must not be empty [MQTT-4.7.3-1]")
	}
	return w, c.err
}

func (w *Will) append(dst []byte, v Version) []byte {
	if v >= V5 {
		hop := Properties{MessageExpiry: w.Expiry}
		if w.Delay != 0 {
			hop.WillDelay = Some(w.Delay)
		}
		var m int
		dst, m = mark(dst)
		dst = append(hop.append(dst, inWill), w.Carried...)
		dst = seal(dst, m)
	}
	return appendText(appendText(dst, w.Topic), w.Payload)
}
