//go:build !race

package broker

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A message that nobody keeps costs no memory on its way: read, decoded, allowed,
// charged, counted, matched, written to its subscriber, acknowledged by it and to
// its publisher. The whole process is counted, so that no goroutine is left out.
// What is left is crypto/tls's: one small object for each record that is read, and
// one more where the broker then finds that nothing else is there. A lap has two
// records with QoS 0 and four with QoS 1. A race detector makes allocations of its own.
func TestSteadyPathAllocates(t *testing.T) {
	for qos := range byte(2) {
		for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			t.Run(fmt.Sprintf("QoS %d, version %d", qos, v), func(t *testing.T) {
				w, _ := durable(t)
				l := newLap(w, v, qos)
				for range 50 {
					l.run()
				}
				const laps = 300
				before := mallocs()
				for range laps {
					l.run()
				}
				const rare = 0.5 // what does not come with each lap: a pool that was emptied, a timer
				records := 2 + 2*float64(qos)
				if each := float64(mallocs()-before) / laps; each > 1.5*records+rare {
					t.Errorf("%.1f allocations for each lap of %d messages", each, lapMessages)
				}
			})
		}
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

const lapMessages = 16

// A lap is some messages from one client to another, without an allocation on
// the side of the clients.
type lap struct {
	t        *testing.T
	pub, sub io.ReadWriter
	v        mqtt.Version
	qos      byte
	send     []byte // to the server
	got      []byte // by the subscriber
	acks     []byte // of the subscriber
	acked    []byte // by the server
}

func newLap(w *world, v mqtt.Version, qos byte) *lap {
	sub := w.connect(v, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
	sub.sub("a/#", qos)
	pub := w.connect(v, "pub", nil)
	l := &lap{t: w.t, pub: pub.nc, sub: sub.nc, v: v, qos: qos}
	for i := range lapMessages {
		s := mqtt.Shared{Topic: fmt.Sprintf("a/%x", i), Payload: bytes.Repeat([]byte{'x'}, 128)}
		d := mqtt.Delivery{QoS: qos, PacketID: uint16(1 + i)}
		l.send = mqtt.AppendPublish(l.send, v, &s, &d)
	}
	l.got = make([]byte, len(l.send)) // the same names and payloads go on
	l.acks = make([]byte, 0, 4*lapMessages)
	l.acked = make([]byte, 4*lapMessages)
	for _, c := range []*client{sub, pub} {
		if err := c.nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			w.t.Fatal(err)
		}
	}
	return l
}

func (l *lap) run() {
	l.write(l.pub, l.send)
	l.read(l.sub, l.got)
	if l.qos == 0 {
		return
	}
	l.acks = l.acks[:0]
	each := len(l.got) / lapMessages
	var p mqtt.Publish
	for i := range lapMessages {
		h, body, n, err := mqtt.Frame(l.got[i*each:], mqtt.MaxPacketSize)
		if err != nil || n != each || p.Decode(h.Flags, body, l.v) != nil {
			l.t.Fatalf("message %d: %v", i, err)
		}
		l.acks = append(l.acks, byte(mqtt.PUBACK)<<4, 2, byte(p.PacketID>>8), byte(p.PacketID))
	}
	l.write(l.sub, l.acks)
	l.read(l.pub, l.acked)
}

func (l *lap) write(w io.Writer, b []byte) {
	if _, err := w.Write(b); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lap) read(r io.Reader, b []byte) {
	if _, err := io.ReadFull(r, b); err != nil {
		l.t.Fatal(err)
	}
}
