package api

import (
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

// InPage is the parameters of every list. Inputs that are embedded in others, as
// it is, have to be exported: unexported ones would be left out without a word.
type InPage struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
	After string `query:"after" maxLength:"1024" doc:"The next of the page before; absent for the first."`
}

func (p InPage) page() registry.Page { return registry.Page{Limit: p.Limit, After: p.After} }

// A list is one page of something.
type list[T any] struct {
	Items []T    `json:"items" doc:"In the order of their names, or of time."`
	Next  string `json:"next,omitempty" doc:"For after, to get the next page; absent on the last."`
}

// newList makes a page out of what the registry returned.
func newList[R, T any](from []R, next string, convert func(R) T) *body[list[T]] {
	l := list[T]{Items: make([]T, 0, len(from)), Next: next}
	for _, r := range from {
		l.Items = append(l.Items, convert(r))
	}
	return &body[list[T]]{Body: l}
}

// A body is an answer that has nothing but a body.
type body[T any] struct{ Body T }

// A created is the answer to the creation of something that has its own path.
type created[T any] struct {
	Location string `header:"Location" doc:"The path of what was created."`
	Body     T
}

type InOrg struct {
	Org string `path:"org" pattern:"^[a-z0-9]{6}$" patternDescription:"an organisation id of 6 lower-case letters or digits" doc:"The organisation."`
}

func (in InOrg) org() auth.OrgID { return auth.OrgID(in.Org) }

// disable is the body of a change that only disables or enables.
type disable struct {
	Disabled bool `json:"disabled" doc:"Disabled: connections are closed at once and new ones refused."`
}

func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
