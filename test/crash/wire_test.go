package crash

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A wire is one connection.
type wire struct {
	nc      *tls.Conn
	version mqtt.Version
	packets chan mqtt.Packet // closed at the end of the connection
	gone    chan struct{}    // closed by close
	buf     []byte
}

// errRefused is a CONNACK that says no.
var errRefused = errors.New("connection refused")

// patience bounds everything that should happen at once.
const patience = 30 * time.Second

func dial(ctx context.Context, address string, config *tls.Config, v mqtt.Version) (*wire, error) {
	d := tls.Dialer{Config: config}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := &wire{nc: nc.(*tls.Conn), version: v, packets: make(chan mqtt.Packet, 4096), gone: make(chan struct{})}
	go w.read()
	return w, nil
}

func (w *wire) read() {
	defer close(w.packets)
	r := mqtt.NewReader(w.nc, 1<<20)
	for {
		p, err := r.Packet(w.version)
		if err != nil {
			return
		}
		if pub, ok := p.(*mqtt.Publish); ok {
			p = pub.Clone()
		}
		select {
		case w.packets <- p:
		case <-w.gone:
			return
		}
	}
}

// write sends packets. An error shows at the reader, too.
func (w *wire) write(packets ...mqtt.Packet) {
	w.buf = w.buf[:0]
	for _, p := range packets {
		w.buf = p.Append(w.buf, w.version)
	}
	_ = w.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := w.nc.Write(w.buf); err != nil {
		_ = w.nc.NetConn().Close()
	}
}

// close cuts the connection and waits for the reader.
func (w *wire) close() {
	close(w.gone)
	_ = w.nc.NetConn().Close()
	for range w.packets {
	}
}

// next returns the next packet, or nil if the connection ends first.
func (w *wire) next() mqtt.Packet {
	select {
	case p := <-w.packets:
		return p
	case <-time.After(patience):
		return nil
	}
}
