package embedded

import (
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
)

// Limit sets what an organisation may have.
func (e *Engine) Limit(id auth.OrgID, l quota.Limits) {
	if o, err := e.org(id); err == nil {
		o.limits.Store(&l)
	}
}
