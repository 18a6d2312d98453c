package broker

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// upgrade serves a WebSocket with the subprotocol of MQTT. It returns when the
// connection has ended.
func (b *Broker) upgrade(w http.ResponseWriter, r *http.Request) {
	p := peerOf(r)
	if !offers(r, "mqtt") && !offers(r, "mqttv3.1") {
		problem(w, http.StatusBadRequest, "the WebSocket subprotocol must be mqtt") // [MQTT-6.0.0-3]
		return
	}
	opts := &websocket.AcceptOptions{Subprotocols: []string{"mqtt", "mqttv3.1"}} // [MQTT-6.0.0-4]
	if p.cert == nil {
		// Whoever connects has to say who it is in CONNECT, so it does not matter
		// which page it comes from. A certificate is sent without asking the
		// page: with one, the page must be ours.
		opts.OriginPatterns = []string{"*"}
	}
	if !b.join() { // before HTTP lets go of the connection: one of the two waits for it at the end
		problem(w, http.StatusServiceUnavailable, "the server is shutting down")
		return
	}
	defer b.wg.Done()
	ws, err := websocket.Accept(w, r, opts)
	if err != nil {
		b.log.Info("no WebSocket", "client", p.remote, "err", err)
		return
	}
	// Messages are read piece by piece: their size costs no memory.
	b.serve(p, websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
}

func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		names := strings.Split(line, ",")
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSpace(n), protocol) }) {
			return true
		}
	}
	return false
}
