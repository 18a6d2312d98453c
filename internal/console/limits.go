package console

import (
	"net/http"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
)

// maxEvents is how many limit events one page shows.
const maxEvents = 100

// A limitsPage shows what an organisation uses of its limits, and who reached them.
type limitsPage struct {
	Person string
	Org    registry.Org
	Limits []limitRow
	Events []quota.Event
}

// A limitRow is one limit.
type limitRow struct {
	Name, About, AtLimit string
	Holds                any
	Set                  bool  // for this organisation
	Used                 int64 // now
	Counted              bool  // otherwise Used says nothing
}

// limits shows the limits of an organisation, those first of which is known what
// is used.
func (s *server) limits(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	ctx := r.Context()
	if s.usage == nil || s.limitEvents == nil {
		return errs.E(errs.NotFound, "This server does not count what is used.")
	}
	me, err := s.registry.Person(ctx, actor, actor.Principal.ID)
	if err != nil {
		return err
	}
	p := limitsPage{Person: me.Name}
	if p.Org, err = s.org(r, actor, r.URL.Query().Get("org")); err != nil {
		return err
	}
	set, err := s.registry.OrgLimits(ctx, actor, p.Org.ID)
	if err != nil {
		return err
	}
	used, err := s.usage(ctx, p.Org.ID, "")
	if err != nil {
		return err
	}
	holds := set.Effective(s.base)
	var counted, other []limitRow
	for _, l := range quota.All() {
		row := limitRow{Name: l.String(), About: l.About(), AtLimit: l.AtLimit(), Holds: holds.Value(l), Set: set.Org.Get(l) != 0}
		if row.Used, row.Counted = used[l]; row.Counted {
			counted = append(counted, row)
		} else {
			other = append(other, row)
		}
	}
	p.Limits = append(counted, other...)
	p.Events = s.limitEvents(p.Org.ID)
	p.Events = p.Events[:min(len(p.Events), maxEvents)]
	s.render(w, r, http.StatusOK, "limits.html", p)
	return nil
}
