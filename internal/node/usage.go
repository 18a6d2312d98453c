package node

import (
	"context"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
)

// usage returns how much of its limits an organisation uses now or, unless typ
// is empty, the devices of a type.
func (n *Node) usage(ctx context.Context, org auth.OrgID, typ string) (map[quota.Limit]int64, error) {
	u := n.broker.Usage(org)
	if typ != "" {
		return map[quota.Limit]int64{quota.TypeConnections: u.Types[typ]}, nil
	}
	kept, err := n.engine.Stats(ctx, org)
	if err != nil {
		return nil, err
	}
	return map[quota.Limit]int64{
		quota.OrgConnections:   u.Connections,
		quota.OrgSessions:      kept.Persistent,
		quota.OrgSubscriptions: kept.Subscriptions,
		quota.OrgQueue:         kept.Queued,
		quota.OrgQueueBytes:    kept.QueuedBytes,
		quota.OrgRetained:      kept.Retained,
		quota.OrgRetainedBytes: kept.RetainedBytes,
		quota.OrgWillBytes:     u.WillBytes,
	}, nil
}

// limitEvents returns who of an organisation reached which limit, latest first.
func (n *Node) limitEvents(org auth.OrgID) []quota.Event { return n.limitLog.Events(string(org)) }
