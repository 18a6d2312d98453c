package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

type actorKey struct{}

// actorOf returns who was authenticated; without that, an actor who has no
// rights and only an address.
func actorOf(ctx context.Context) registry.Actor {
	if a, ok := ctx.Value(actorKey{}).(registry.Actor); ok {
		return a
	}
	r := requestOf(ctx)
	return registry.Actor{Address: r.address, RequestID: r.id}
}

// authenticate runs before an operation reads anything of the request.
func (s *server) authenticate(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	actor, err := s.caller(r)
	org := auth.OrgID(r.PathValue("org"))
	if err == nil {
		if err = ownOrg(actor, org); err != nil {
			s.noteRefusal(actor, actor.Principal.Org, registry.RefusedOrg)
		}
	}
	if err != nil {
		s.problem(r.Context(), err).write(w)
		return
	}
	if org == "" {
		org = auth.OrgID(r.URL.Query().Get("org"))
	}
	next(huma.WithValue(huma.WithValue(ctx, actorKey{}, actor), orgKey{}, org))
}

// orgKey finds the organisation that a request is about.
type orgKey struct{}

// noteDenied counts for the audit record that a caller may not do something.
func (s *server) noteDenied(ctx context.Context, err error) {
	if actor, ok := ctx.Value(actorKey{}).(registry.Actor); ok && errs.CodeOf(err) == errs.Denied {
		org, _ := ctx.Value(orgKey{}).(auth.OrgID)
		if org == "" {
			org = actor.Principal.Org
		}
		s.noteRefusal(actor, org, registry.RefusedPermission)
	}
}

func (s *server) noteRefusal(a registry.Actor, org auth.OrgID, class registry.RefusalClass) {
	s.registry.NoteRefusal(registry.NotedRefusal{Org: org, Class: class, Who: a.Principal.String(), Address: a.Address})
}

// ownOrg keeps an API key inside its organisation before anything is looked up:
// another one looks to it as if it were not there. Of which ones a person is a
// member, the registry knows.
func ownOrg(a registry.Actor, org auth.OrgID) error {
	if org != "" && a.Principal.Kind != auth.Person && a.Principal.Org != org {
		return errs.E(errs.NotFound, "there is no such organisation")
	}
	return nil
}

// caller tells who makes the request. A certificate is not looked at: it
// identifies devices, which have no business here but renewing it.
func (s *server) caller(r *http.Request) (registry.Actor, error) {
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	r = r.WithContext(ctx)
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return registry.Actor{}, errs.E(errs.Unauthenticated, "an Authorization header is needed: Bearer with an access token, or Basic with an API key and its token")
	}
	if key, token, ok := r.BasicAuth(); ok {
		return s.application(r, key, secret.New(token))
	}
	token, ok := bearer(r)
	if !ok {
		return registry.Actor{}, errs.E(errs.Unauthenticated, "Authorization must be Bearer with an access token, or Basic with an API key and its token")
	}
	actor, err := s.registry.Session(r.Context(), token, requestOf(r.Context()).address)
	if err != nil {
		return registry.Actor{}, err
	}
	actor.RequestID = requestID(r.Context())
	return actor, nil
}

// bearer returns the access token of r.
func bearer(r *http.Request) (token secret.String, ok bool) {
	scheme, s, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return secret.New(s), strings.EqualFold(scheme, "Bearer") && s != ""
}

// application authenticates an API key.
func (s *server) application(r *http.Request, key string, token secret.String) (registry.Actor, error) {
	req := requestOf(r.Context())
	a, err := s.registry.ApplicationActor(r.Context(), key, token, req.address)
	switch errs.CodeOf(err) {
	case errs.Unauthenticated, errs.NotFound, errs.Invalid:
		return registry.Actor{}, errs.E(errs.Unauthenticated, "the API key or its token is wrong")
	}
	a.RequestID = req.id
	return a, err
}
