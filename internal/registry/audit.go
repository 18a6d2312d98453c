package registry

import (
	"context"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// MayReadAudit decides whose part of the audit record a may read who asks for
// that of org, or with "" for all that is to be had: everything for an
// administrator of the installation, for an API key its own organisation's. An
// administrator may read the record of an organisation that was deleted, too.
func (r *Registry) MayReadAudit(ctx context.Context, a Actor, org auth.OrgID) (audit.Scope, error) {
	if a.mayAdminister() == nil {
		return audit.Scope{Org: org, All: org == ""}, nil
	}
	if org == "" {
		org = a.Principal.Org
	}
	if org == "" {
		return audit.Scope{}, errs.E(errs.Denied, "only an administrator may read the whole record; name an organisation")
	}
	_, h, err := r.mayAs(ctx, a, org, permission.AuditRead)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return audit.Scope{}, err
	}
	return audit.Scope{Org: org}, nil
}

// AuditDays returns for how many days the texts of audit records are kept, as it
// was set; 0: for ever; nil: as it is configured.
func (r *Registry) AuditDays(ctx context.Context, a Actor) (days *int, err error) {
	if err := a.mayAdminister(); err != nil {
		return nil, err
	}
	err = r.view(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		days, err = audit.Days(ctx, tx)
		return err
	})
	return days, err
}

// SetAuditDays sets for how many days the texts of audit records are kept.
func (r *Registry) SetAuditDays(ctx context.Context, a Actor, days *int) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		before, err := audit.Days(ctx, tx)
		if err != nil {
			return effect{}, err
		}
		said := func(days *int) any {
			if days == nil {
				return nil
			}
			return *days
		}
		return effect{action: "audit.retention", target: "audit",
			detail: map[string]any{"days": said(days), "before": said(before)}}, audit.SetDays(ctx, tx, days)
	})
}
