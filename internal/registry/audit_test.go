package registry

import (
	"strconv"
	"testing"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// Who reads which part of the record is decided by MayReadAudit alone.
func TestMayReadAudit(t *testing.T) {
	h := newHeld(t)
	h.newPerson(t, "auditor")
	h.newPerson(t, "stranger")
	h.newPerson(t, "limited")
	auditor := h.join(t, h.org, "auditor", "auditor")
	limited := h.join(t, h.org, "limited", "auditor")
	yes, hall := true, []string{"hall"}
	_, err := h.SetMember(t.Context(), h.admin, h.org, "limited", MemberChange{Limited: &yes, Groups: &hall})
	check(t, err)
	key, _, err := h.CreateApplication(t.Context(), h.admin, Application{Org: h.org, Role: "auditor"})
	check(t, err)
	reader := Actor{Principal: key.Principal()}
	other := h.newOrg(t, ProfileIoT2)
	gone := h.newOrg(t, ProfileIoT2)
	check(t, h.DeleteOrg(t.Context(), h.admin, gone))
	person := func(id string) Actor { return Actor{Principal: auth.Principal{Kind: auth.Person, ID: id}} }
	own := audit.Scope{Org: h.org}
	for name, tc := range map[string]struct {
		a    Actor
		org  auth.OrgID
		want audit.Scope // none: refused, as code says
		code errs.Code
	}{
		"administrator, all":       {h.admin, "", audit.Scope{All: true}, 0},
		"administrator, one":       {h.admin, h.org, own, 0},
		"administrator, a deleted": {h.admin, gone, audit.Scope{Org: gone}, 0},
		"auditor":                  {auditor, h.org, own, 0},
		"auditor, all":             {auditor, "", audit.Scope{}, errs.Denied},
		"auditor, another":         {auditor, other, audit.Scope{}, errs.NotFound},
		"auditor, a deleted":       {auditor, gone, audit.Scope{}, errs.NotFound},
		"auditor of some devices":  {limited, h.org, audit.Scope{}, errs.Denied},
		"other member":             {h.member, h.org, audit.Scope{}, errs.Denied},
		"stranger":                 {person("stranger"), h.org, audit.Scope{}, errs.NotFound},
		"stranger, all":            {person("stranger"), "", audit.Scope{}, errs.Denied},
		"key, all it may":          {reader, "", own, 0},
		"key, its own":             {reader, h.org, own, 0},
		"key, another":             {reader, other, audit.Scope{}, errs.NotFound},
		"key that may not":         {h.actor(), "", audit.Scope{}, errs.Denied},
		"device":                   {Actor{Principal: auth.Principal{Org: h.org, Kind: auth.Device, ID: "t:d"}}, "", audit.Scope{}, errs.NotFound},
		"nobody":                   {Actor{}, "", audit.Scope{}, errs.Denied},
		"nobody, one":              {Actor{}, h.org, audit.Scope{}, errs.NotFound},
	} {
		got, err := h.MayReadAudit(t.Context(), tc.a, tc.org)
		if got != tc.want || (err == nil) != (tc.want != audit.Scope{}) || err != nil && errs.CodeOf(err) != tc.code {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestAuditDays(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	get := func() string {
		days, err := h.AuditDays(ctx, h.admin)
		check(t, err)
		if days == nil {
			return "none"
		}
		return strconv.Itoa(*days)
	}
	set := func(days int) error { return h.SetAuditDays(ctx, h.admin, &days) }
	if got := get(); got != "none" {
		t.Errorf("at first %s", got)
	}
	check(t, set(90))
	if got := get(); got != "90" {
		t.Errorf("set 90, got %s", got)
	}
	for _, days := range []int{-1, 1, audit.MinDays - 1, audit.MaxDays + 1} {
		wantCode(t, set(days), errs.Invalid)
	}
	check(t, set(0))
	if got := get(); got != "0" {
		t.Errorf("set 0, got %s", got)
	}
	check(t, h.SetAuditDays(ctx, h.admin, nil))
	if got := get(); got != "none" {
		t.Errorf("unset, got %s", got)
	}
	for _, a := range []Actor{h.member, h.actor(), {}} {
		_, err := h.AuditDays(ctx, a)
		wantCode(t, err, errs.Denied)
		wantCode(t, h.SetAuditDays(ctx, a, nil), errs.Denied)
	}
}
