package registry

import (
	"context"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
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
