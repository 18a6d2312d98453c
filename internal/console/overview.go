package console

import (
	"net/http"
	"slices"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
)

const (
	maxOrgs    = 100 // in the list to choose from
	maxDevices = 200 // on one page
)

// An overviewPage shows one organisation.
type overviewPage struct {
	Person  string
	Orgs    []registry.Org
	More    bool // there are more organisations than the list shows
	Org     registry.Org
	Devices []registry.Device
	Cursor  string             // of this page; "": the first
	Support []registry.Support // who of the operator may look in now
	Next    string             // of the page after; "": this is the last
}

// overview shows the devices of an organisation: the one asked for, or the oldest
// of which the person is a member.
func (s *server) overview(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	ctx, q := r.Context(), r.URL.Query()
	me, err := s.registry.Person(ctx, actor, actor.Principal.ID)
	if err != nil {
		return err
	}
	orgs, more, err := s.registry.Orgs(ctx, actor, registry.Page{Limit: maxOrgs})
	if err != nil {
		return err
	}
	p := overviewPage{Person: me.Name, Orgs: orgs, More: more != "", Cursor: q.Get("after")}
	// An administrator sees all organisations, and looks into their own.
	mine, err := s.registry.Memberships(ctx, actor)
	if err != nil {
		return err
	}
	own := slices.DeleteFunc(slices.Clone(orgs), func(o registry.Org) bool {
		return !slices.ContainsFunc(mine, func(m registry.Member) bool { return m.Org == o.ID })
	})
	switch id := q.Get("org"); {
	case id != "":
		if p.Org, err = s.org(r, actor, id); err != nil {
			return err
		}
	case len(own) > 0:
		p.Org = slices.MinFunc(own, func(a, b registry.Org) int { return a.Created.Compare(b.Created) })
	default:
		s.render(w, r, http.StatusOK, "overview.html", p)
		return nil
	}
	if p.Support, err = s.registry.OpenSupport(ctx, actor, p.Org.ID); err != nil {
		return err
	}
	p.Devices, p.Next, err = s.registry.Devices(ctx, actor, p.Org.ID, registry.DeviceFilter{}, registry.Page{Limit: maxDevices, After: p.Cursor})
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, "overview.html", p)
	return nil
}

// org returns the organisation that a request names.
func (s *server) org(r *http.Request, actor registry.Actor, id string) (registry.Org, error) {
	org, err := auth.ParseOrgID(id)
	if err != nil {
		return registry.Org{}, errs.E(errs.NotFound, "There is no such organisation.")
	}
	return s.registry.Org(r.Context(), actor, org)
}
