package node

import (
	"context"
	"errors"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/broker"
	"github.com/keepmq/keepmq/internal/registry"
)

// keepAudit removes the texts of old audit records, soon after the start and
// then every hour, until ctx ends.
func (n *Node) keepAudit(ctx context.Context) {
	tick := time.NewTimer(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(time.Hour)
		}
		removed, err := n.audit.Prune(ctx, n.config.Audit.KeepDays)
		switch {
		case errors.Is(err, audit.ErrReading):
			n.log.Info("old audit records stay for now: the record is being exported", "removed", removed)
		case err != nil && ctx.Err() == nil:
			n.log.Error("old audit records could not be removed", "removed", removed, "err", err)
		case removed > 0:
			n.log.Info("old audit records removed", "removed", removed)
		}
	}
}

// noteRefused has a CONNECT that the broker refused counted for the audit record.
func (n *Node) noteRefused(r broker.Refused) {
	noted := registry.NotedRefusal{Org: r.Who.Org, Who: r.Client, Address: r.Address}
	if noted.Org != "" {
		noted.Who = r.Who.String()
	}
	switch r.Reason {
	case broker.RefusedLimit:
		noted.Class = registry.RefusedLimit
	case broker.RefusedAttempts:
		noted.Class = registry.RefusedAttempts
	default:
		noted.Class = registry.RefusedMalformed
	}
	n.registry.NoteRefusal(noted)
}
