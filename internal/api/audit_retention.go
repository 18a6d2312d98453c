package api

import (
	"context"

	"github.com/keepmq/keepmq/internal/registry"
)

// AuditRetention says for how long the texts of audit records are kept.
type AuditRetention struct {
	Days    int  `json:"days" doc:"What holds: for how many days; 0: for ever. The hashes of records stay for ever, so that the rest can be verified as before."`
	Set     *int `json:"set" doc:"What is set here; null: nothing."`
	Default int  `json:"default" doc:"What is configured for this server."`
}

// AuditRetentionChange changes it.
type AuditRetentionChange struct {
	Days *int `json:"days" nullable:"true" required:"true" doc:"30 to 36500; 0: for ever; null: as it is configured for this server. Texts that are older go within the hour, and do not come back."`
}

func (s *server) auditRetention(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[AuditRetention], error) {
	set, err := s.registry.AuditDays(ctx, actor)
	if err != nil {
		return nil, err
	}
	out := AuditRetention{Days: s.keepDays, Set: set, Default: s.keepDays}
	if set != nil {
		out.Days = *set
	}
	return &body[AuditRetention]{Body: out}, nil
}

func (s *server) updateAuditRetention(ctx context.Context, actor registry.Actor, in *struct {
	Body AuditRetentionChange
}) (*body[AuditRetention], error) {
	if err := s.registry.SetAuditDays(ctx, actor, in.Body.Days); err != nil {
		return nil, err
	}
	return s.auditRetention(ctx, actor, nil)
}
