package store

import "context"

type scopeKey struct{}

type scope struct {
	org string
	all bool
}

// ForOrg returns a context whose transactions are those of one organisation. A
// store that can tell, PostgreSQL, then shows and takes only rows of org, whatever
// a statement says, and refuses a transaction without a scope.
func ForOrg(ctx context.Context, org string) context.Context {
	return context.WithValue(ctx, scopeKey{}, scope{org: org})
}

// ForAll returns a context whose transactions are those of the installation: they
// reach every organisation.
func ForAll(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, scope{all: true})
}

// Scope returns whose the transactions of ctx are: of the installation, of one
// organisation, or, with neither, nobody's.
func Scope(ctx context.Context) (org string, all bool) {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s.org, s.all
}
