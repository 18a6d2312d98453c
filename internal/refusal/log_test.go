package refusal

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	now := time.Unix(1000, 0)
	g := NewLog(func() time.Time { now = now.Add(time.Second); return now })
	one := Refusal{Org: "abc123", Principal: "device:abc123:t:d", Action: "publish", Topic: "a", Reason: "no rule"}
	id := g.Note(one)
	one.Reason = "another reason"
	if again := g.Note(one); again != id || len(id) != 12 {
		t.Errorf("numbers %q and %q: a number tells of a change of the reason", id, again)
	}
	other := one
	other.Topic = "b"
	if g.Note(other) == id {
		t.Error("two refusals have one number")
	}
	r, ok := g.Find("abc123", strings.ToUpper(id))
	if !ok || r.Count != 2 || r.Reason != "another reason" || !r.Last.After(r.First) {
		t.Errorf("%+v %v", r, ok)
	}
	if _, ok := g.Find("abc124", id); ok {
		t.Error("found in another organisation")
	}
	if all := g.List("abc123"); len(all) != 2 || all[0].Topic != "b" {
		t.Errorf("%+v", all)
	}
	if id := (*Log)(nil).Note(one); id != "" || (*Log)(nil).List("abc123") != nil {
		t.Error("a nil Log remembers")
	}
}

// However many are refused, memory is bounded, and one organisation's flood does
// not push out what another's owner wants to know.
func TestLogIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	g := NewLog(func() time.Time { now = now.Add(time.Second); return now })
	mine := g.Note(Refusal{Org: "mine00", Principal: "p", Action: "connect", Reason: "x"})
	for i := range 5 * maxPerOrg {
		g.Note(Refusal{Org: "flood0", Principal: "p", Client: fmt.Sprint(i), Action: "connect"})
	}
	if n := len(g.List("flood0")); n > maxPerOrg || n < maxPerOrg/2 {
		t.Errorf("%d are kept", n)
	}
	if latest := g.List("flood0")[0]; latest.Client != fmt.Sprint(5*maxPerOrg-1) {
		t.Errorf("the latest is %+v", latest)
	}
	if _, ok := g.Find("mine00", mine); !ok {
		t.Error("pushed out")
	}
	for i := range 2 * maxOrgs {
		g.Note(Refusal{Org: fmt.Sprint(i), Action: "connect"})
	}
	if len(g.orgs) > maxOrgs {
		t.Errorf("%d organisations", len(g.orgs))
	}
	long := g.Note(Refusal{Org: "long00", Topic: strings.Repeat("é", 30_000), Client: strings.Repeat("c", 60_000)})
	if r, _ := g.Find("long00", long); len(r.Topic) > maxText+3 || len(r.Client) > maxText+3 {
		t.Errorf("%d and %d bytes are kept", len(r.Topic), len(r.Client))
	}
}
