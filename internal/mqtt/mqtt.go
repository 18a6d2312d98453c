// Package mqtt is the wire format of MQTT 5.0, 3.1.1 and 3.1: it turns bytes
// into packets and packets into bytes, in both directions, so that the broker
// and our own clients speak through the same code.
//
// What it promises. A packet that decodes without an error is well formed:
// every rule that can be checked from the bytes of one packet alone has been
// checked, and the error names the field, the rule and the clause of the
// standard. Decoding never panics, never reads past the body and never
// allocates more than a small multiple of the bytes that have arrived. Append
// writes what Decode accepts, as long as the fields hold legal values.
//
// How it is used. [Frame] finds one packet at the front of a buffer. The two
// hot packets, [Publish] and [Ack], decode into a struct the caller reuses and
// allocate nothing; a decoded Publish holds views into the body. All other
// packets are copied out of the body and may be kept. [AppendPublish] writes
// one message for many receivers. [Reader] and [Decode] are for clients and
// tests, which do not mind an allocation.
//
// The clauses cited, like [MQTT-3.3.2-2], are those of MQTT 5.0 unless the
// text says otherwise; where a rule exists in one version only, so does the
// check.
//
// What it does not do. It keeps no state between packets: topic aliases,
// packet identifiers in flight, quotas, and who may send which packet when are
// the broker's. It does not parse topic filters (package topic does) and does
// not translate reason codes between protocol versions.
package mqtt
