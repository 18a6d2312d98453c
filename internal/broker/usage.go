package broker

import "github.com/keepmq/keepmq/internal/auth"

// A Usage is what an organisation has of the broker now.
type Usage struct {
	Connections int64
	WillBytes   int64            // of the wills that wait for their time
	Types       map[string]int64 // of them, those of the devices of each type; no zeros
}

// Usage returns what an organisation uses now.
func (b *Broker) Usage(org auth.OrgID) Usage {
	u := Usage{Types: map[string]int64{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tenants[org]
	if t == nil {
		return u
	}
	u.Connections = int64(len(t.conns))
	u.WillBytes = t.willBytes
	for typ, g := range t.groups {
		if g.conns > 0 {
			u.Types[typ] = g.conns
		}
	}
	return u
}
