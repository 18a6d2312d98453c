package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/registry"
)

// A handler does one operation for one caller. Its input is checked against the
// document, and its error is translated in one place.
type handler[I, O any] func(ctx context.Context, actor registry.Actor, in *I) (*O, error)

func get[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodGet, path, id, summary, http.StatusOK, true, h)
}

func create[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodPost, path, id, summary, http.StatusCreated, true, h)
}

func act[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodPost, path, id, summary, http.StatusOK, true, h)
}

func update[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodPatch, path, id, summary, http.StatusOK, true, h)
}

func replace[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodPut, path, id, summary, http.StatusOK, true, h)
}

func remove[I any](s *server, a huma.API, path, id, summary string, h func(context.Context, registry.Actor, *I) error) {
	register(s, a, http.MethodDelete, path, id, summary, http.StatusNoContent, true,
		func(ctx context.Context, actor registry.Actor, in *I) (*nothing, error) {
			return nil, h(ctx, actor, in)
		})
}

func end[I any](s *server, a huma.API, path, id, summary string, h func(context.Context, registry.Actor, *I) error) {
	register(s, a, http.MethodPost, path, id, summary, http.StatusNoContent, true,
		func(ctx context.Context, actor registry.Actor, in *I) (*nothing, error) {
			return nil, h(ctx, actor, in)
		})
}

func open[I, O any](s *server, a huma.API, path, id, summary string, h handler[I, O]) {
	register(s, a, http.MethodPost, path, id, summary, http.StatusOK, false, h)
}

// nothing is the answer of an operation that has none.
type nothing struct{}

func register[I, O any](s *server, a huma.API, method, path, id, summary string, status int, secured bool, h handler[I, O]) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status,
		MaxBodyBytes: maxBody, BodyReadTimeout: maxTime, Tags: []string{tag(path)},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
			http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	switch {
	case secured:
		op.Security = []map[string][]string{{"person": {}}, {"application": {}}}
		op.Middlewares = huma.Middlewares{s.authenticate}
	case path == "/renew":
		op.Security = []map[string][]string{{"device": {}}}
	}
	huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, maxTime)
		defer cancel()
		out, err := h(ctx, actorOf(ctx), in)
		if err != nil {
			s.noteDenied(ctx, err)
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// tag groups operations in the document by the resource they are about.
func tag(path string) string {
	for _, p := range []struct{ prefix, tag string }{
		{"/orgs/{org}/types", "device types"}, {"/orgs/{org}/devices", "devices"}, {"/orgs/{org}/apps", "API keys"},
		{"/orgs/{org}/users", "MQTT users"}, {"/orgs/{org}/credentials", "credentials"}, {"/orgs/{org}/teams", "teams"}, {"/orgs/{org}/services", "service accounts"}, {"/orgs/{org}/limit", "limits"},
		{"/orgs/{org}/network", "networks and policies"}, {"/orgs/{org}/policies", "networks and policies"},
		{"/orgs/{org}/compliance", "networks and policies"}, {"/orgs/{org}/support", "support access"}, {"/orgs/{org}/locks", "locks"}, {"/locks", "locks"}, {"/orgs/{org}/explain", "explanations"}, {"/orgs/{org}/readers", "explanations"}, {"/orgs/{org}/refusals", "explanations"},
		{"/orgs/{org}/issuers", "identity providers"}, {"/orgs/{org}/alert", "alerts"}, {"/orgs/{org}/webhooks", "alerts"}, {"/orgs/{org}/roles", "roles"}, {"/orgs/{org}/groups", "resource groups"},
		{"/orgs/{org}/members", "members"}, {"/orgs/{org}/invitations", "members"}, {"/me/memberships", "members"}, {"/join", "members"}, {"/people", "members"}, {"/orgs", "organisations"}, {"/audit", "audit"},
		{"/enrol", "certificates"}, {"/renew", "certificates"},
	} {
		if len(path) >= len(p.prefix) && path[:len(p.prefix)] == p.prefix {
			return p.tag
		}
	}
	return "sign-in"
}
