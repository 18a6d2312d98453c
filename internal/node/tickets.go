package node

import (
	"context"
	"crypto/tls"
	"time"
)

// tickets seals and opens the TLS session tickets of one port.
//
// Those of TLS 1.3 are sealed with keys of the keyring, so that a fleet need not
// make full handshakes because the server was started again: there each
// resumption makes new keys for its connection. A ticket of TLS 1.2 holds the very
// keys of the connection, which nothing on disk may open later: its keys live
// and end with the process.
type tickets struct {
	purpose string
	kept    tls.Config // TLS 1.3; nothing but ticket keys
	passing tls.Config // TLS 1.2, the same
}

func (k *tickets) wrap(s tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
	return k.of(s).EncryptTicket(s, state)
}

// unwrap returns no session for a ticket it cannot open; TLS goes on with a full
// handshake then. It checks again what the client's certificate says about itself
// (time and authority), and CONNECT, as ever, whether it was revoked.
func (k *tickets) unwrap(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
	return k.of(s).DecryptTicket(ticket, s)
}

func (k *tickets) of(s tls.ConnectionState) *tls.Config {
	if s.Version >= tls.VersionTLS13 {
		return &k.kept
	}
	return &k.passing
}

// renewTickets takes the ticket keys that are in force at now.
func (n *Node) renewTickets(ctx context.Context, now time.Time) error {
	for _, k := range []*tickets{&n.mqttTickets, &n.httpsTickets} {
		keys, err := n.ring.TicketKeys(ctx, k.purpose, now)
		if err != nil {
			return err
		}
		k.kept.SetSessionTicketKeys(keys)
	}
	return nil
}
