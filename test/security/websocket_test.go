package security

import (
	"context"
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// overWebSocket connects a client with a certificate over WebSocket. ok is false
// if it is not let in.
func (s *site) overWebSocket(t *testing.T, cert tls.Certificate, id string) (r *mqtt.Reader, ok bool) {
	t.Helper()
	conf := s.TLS()
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	web := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(web.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "wss://"+s.address()+"/mqtt", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: web}, Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		if res != nil {
			t.Fatalf("no WebSocket: %v", err)
		}
		return nil, false // TLS refused the certificate
	}
	t.Cleanup(func() { ws.CloseNow() })
	nc := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	_ = nc.SetDeadline(time.Now().Add(patience))
	hello := &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 600, ClientID: id}
	if _, err := nc.Write(hello.Append(nil, mqtt.V5)); err != nil {
		return nil, false
	}
	r = mqtt.NewReader(nc, 1<<20)
	p, err := r.Packet(mqtt.V5)
	ack, isAck := p.(*mqtt.Connack)
	return r, err == nil && isAck && ack.Code == mqtt.Success
}

// A certificate is asked for its revocation on every way in: over WebSocket as
// over TCP, when it connects and while it is connected.
func TestRevocationSkippedOnWebSocket(t *testing.T) {
	s := start(t)
	for name, end := range map[string]func(at, serial string){
		"revoked":  func(at, serial string) { s.api.Call(http.MethodDelete, at+"/certificates/"+serial, nil, nil) },
		"disabled": func(at, _ string) { s.api.Call(http.MethodPatch, at, map[string]bool{"disabled": true}, nil) },
		"deleted":  func(at, _ string) { s.api.Call(http.MethodDelete, at, nil, nil) },
	} {
		at := "/orgs/" + s.ours.id + "/devices/sensor/" + name
		s.api.Call(http.MethodPost, "/orgs/"+s.ours.id+"/devices", map[string]string{"type": "sensor", "id": name}, nil)
		cert, err := s.enrol(t, s.invite(s.ours, "sensor/"+name), newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Items []struct{ Serial string } }
		s.api.Call(http.MethodGet, at+"/certificates", nil, &list)
		id := "d:" + s.ours.id + ":sensor:" + name
		deadline := time.Now().Add(patience) // before that of the connection
		live, ok := s.overWebSocket(t, cert, id)
		if !ok {
			t.Fatal("the certificate is refused before its end")
		}
		end(at, list.Items[0].Serial)
		for {
			p, err := live.Packet(mqtt.V5)
			if err != nil {
				break
			}
			if d, ok := p.(*mqtt.Disconnect); ok && !d.Code.IsError() {
				t.Errorf("%s: %v", name, d.Code)
			}
		}
		if !time.Now().Before(deadline) {
			t.Errorf("%s: the connection over WebSocket goes on", name)
		}
		if _, ok := s.overWebSocket(t, cert, id); ok {
			t.Errorf("%s: the certificate connects over WebSocket", name)
		}
	}
	if _, ok := s.overWebSocket(t, forged(t, s.ours, nil), s.ours.asDevice().client); ok {
		t.Error("a certificate of another authority connects over WebSocket")
	}
}
