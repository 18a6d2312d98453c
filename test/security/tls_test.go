package security

import (
	"crypto/tls"
	"net"
	"strconv"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Weak suites and old versions are refused, and what comes in
// the clear once TLS has ended is not read.
func TestWeakTLSIsRefused(t *testing.T) {
	s := start(t)
	for _, port := range []int{s.MQTTPort, s.HTTPSPort} {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		for name, spoil := range map[string]func(*tls.Config){
			"TLS 1.1": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
			"RSA key exchange": func(c *tls.Config) {
				c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
			},
			"CBC": func(c *tls.Config) {
				c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
			},
			"RC4": func(c *tls.Config) {
				c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
			},
		} {
			conf := s.TLS()
			spoil(conf)
			if c, err := tls.Dial("tcp", address, conf); err == nil {
				c.Close()
				t.Errorf("port %d: %s is accepted", port, name)
			}
		}
	}
	c := s.connect(t, s.ours.asDevice().packet())
	raw := c.nc.NetConn()
	if err := c.nc.CloseWrite(); err != nil { // close_notify
		t.Fatal(err)
	}
	plain := (&mqtt.Publish{Topic: []byte("iot-2/evt/clear/fmt/json"), Payload: []byte("{}"), QoS: 1, PacketID: 1}).Append(nil, mqtt.V5)
	_, _ = raw.Write(plain)
	c.ended()
	c = s.connect(t, s.ours.asDevice().packet())
	_, _ = c.nc.NetConn().Write(plain) // in the clear, in the middle of TLS
	c.ended()
	s.healthy(t)
}
