package console

import (
	"net/http"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// A credentialsPage reports on the tokens of an organisation.
type credentialsPage struct {
	Person string
	Org    registry.Org
	Show   string // the choice that is shown
	Items  []registry.Credential
	Next   string // the address of the next page
	Now    time.Time
}

// Choices are the reports there are to choose from.
func (credentialsPage) Choices() [][2]string {
	return [][2]string{{"", "All"}, {"old", "Older than 90 days"}, {"unused", "Not used for 90 days"}, {"never", "Never used"},
		{"ending", "Ending within 30 days"}, {"two", "Two at a time"}}
}

// Days is for how many days something is there.
func (p credentialsPage) Days(t time.Time) int { return int(p.Now.Sub(t) / (24 * time.Hour)) }

// credentials shows how old tokens are, when they end and when they were used.
func (s *server) credentials(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	ctx := r.Context()
	me, err := s.registry.Person(ctx, actor, actor.Principal.ID)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p := credentialsPage{Person: me.Name, Now: time.Now(), Show: q.Get("show")}
	if p.Org, err = s.org(r, actor, q.Get("org")); err != nil {
		return err
	}
	const day = 24 * time.Hour
	f := map[string]registry.CredentialFilter{"old": {OlderThan: 90 * day}, "unused": {Unused: 90 * day}, "never": {Never: true},
		"ending": {Ending: 30 * day}, "two": {Two: true}}[p.Show]
	var next string
	if p.Items, next, err = s.registry.Credentials(ctx, actor, p.Org.ID, f, registry.Page{After: q.Get("after")}); err != nil {
		return err
	}
	if next != "" {
		p.Next = "/credentials?" + url.Values{"org": {string(p.Org.ID)}, "show": {p.Show}, "after": {next}}.Encode()
	}
	s.render(w, r, http.StatusOK, "credentials.html", p)
	return nil
}
