package api_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Properties           map[string]schema
	Required             []string
	Enum                 []any
	Items                *schema
	Minimum              *float64
	Pattern              string
	AdditionalProperties any
}

type parameter struct {
	Name, In string
	Required bool
	Schema   schema
}

type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Parameters  []parameter
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema schema }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema schema }
	}
	Security []map[string][]string
	method   string
	path     string
}

type document struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Servers    []struct{ URL string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Type string }
	}
}

func (f *fixture) document(t *testing.T) (d document, all []operation) {
	t.Helper()
	f.ask(t, anonymous, "GET", "/api/v1/openapi.json", nil).is(t, 200).into(t, &d)
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op := d.Paths[path][method]
			op.method, op.path = strings.ToUpper(method), path
			all = append(all, op)
		}
	}
	return d, all
}

func TestDocument(t *testing.T) {
	f := start(t)
	d, all := f.document(t)
	if d.OpenAPI != "3.1.0" || d.Info.Version != "test" || len(d.Servers) != 1 || d.Servers[0].URL != "/api/v1" {
		t.Errorf("head of the document: %s %+v %+v", d.OpenAPI, d.Info, d.Servers)
	}
	if len(all) < 40 {
		t.Errorf("only %d operations", len(all))
	}
	seen := map[string]bool{}
	for _, op := range all {
		where := op.method + " " + op.path
		if op.OperationID == "" || op.Summary == "" || seen[op.OperationID] {
			t.Errorf("%s: operationId %q, summary %q", where, op.OperationID, op.Summary)
		}
		seen[op.OperationID] = true
		ok := 0
		for code, r := range op.Responses {
			if r.Description == "" {
				t.Errorf("%s: response %s has no description", where, code)
			}
			if code[0] == '2' {
				ok++
			} else if _, has := r.Content["application/problem+json"]; !has {
				t.Errorf("%s: response %s is no problem document", where, code)
			}
		}
		if ok != 1 || len(op.Responses) < 5 {
			t.Errorf("%s: %d answers of success, %d answers", where, ok, len(op.Responses))
		}
		for _, name := range placeholders(op.path) {
			if !slices.ContainsFunc(op.Parameters, func(p parameter) bool { return p.Name == name && p.In == "path" && p.Required }) {
				t.Errorf("%s: parameter %s is not described", where, name)
			}
		}
		for _, s := range op.Security {
			for name := range s {
				if d.Components.SecuritySchemes[name].Type == "" {
					t.Errorf("%s: security scheme %s is not described", where, name)
				}
			}
		}
	}
	raw, err := json.Marshal(d)
	must(t, err)
	for name, s := range d.Components.Schemas {
		if len(s.Properties) > 0 && s.AdditionalProperties != false {
			t.Errorf("schema %s takes unknown fields", name)
		}
	}
	for _, ref := range refs(string(raw)) {
		if _, ok := d.Components.Schemas[ref]; !ok {
			t.Errorf("schema %s is not there", ref)
		}
	}
}

// Every route but those that are meant for everyone refuses whoever is nobody,
// and hides one organisation from another's API key.
func TestEveryRouteRefusesStrangers(t *testing.T) {
	f := start(t)
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "Other", "id": "other1"}).is(t, 201)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/other1/types", map[string]any{"id": "x"}).is(t, 201)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/other1/devices", map[string]any{"type": "x", "id": "x"}).is(t, 201)
	other := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	open := []string{"sign-in", "enrol", "renew", "join", "log-in"}                                       // they bring their own proof
	own := []string{"get-me", "list-orgs", "list-audit", "sign-out", "list-sessions", "list-memberships"} // about the caller alone
	d, all := f.document(t)
	for _, op := range all {
		path := "/api/v1" + op.path
		for _, p := range placeholders(op.path) {
			v := "x"
			if p == "org" {
				v = "other1"
			}
			path = strings.Replace(path, "{"+p+"}", v, 1)
		}
		var in any
		if op.RequestBody != nil {
			in = d.example(op.RequestBody.Content["application/json"].Schema)
		}
		if slices.Contains(open, op.OperationID) {
			if a := f.ask(t, anonymous, op.method, path, in); a.status < 400 || a.status >= 500 {
				t.Errorf("%s without proof: %d", op.OperationID, a.status)
			}
			continue
		}
		f.ask(t, anonymous, op.method, path, in).is(t, 401)
		if slices.Contains(own, op.OperationID) {
			continue
		}
		if a := f.ask(t, other, op.method, path, in); a.status != 403 && a.status != 404 {
			t.Errorf("%s as another organisation's API key: %d %s", op.OperationID, a.status, a.body)
		} else {
			a.problem(t)
		}
	}
	f.ask(t, f.admin, "GET", "/api/v1/orgs/other1/devices/x/x", nil).is(t, 200) // nothing was deleted
}

// example makes a body that the schema allows.
func (d document) example(s schema) any {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.Properties) > 0:
		m := map[string]any{}
		for _, name := range s.Required {
			m[name] = d.example(s.Properties[name])
		}
		return m
	}
	if either, ok := s.Type.([]any); ok { // such as an integer or null
		s.Type = either[0]
	}
	switch s.Type {
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return true
	case "array":
		return []any{}
	case "object":
		return map[string]any{}
	}
	return "x"
}

func placeholders(path string) (names []string) {
	for _, part := range strings.Split(path, "/") {
		if strings.HasPrefix(part, "{") {
			names = append(names, strings.Trim(part, "{}"))
		}
	}
	return names
}

func refs(document string) (names []string) {
	for _, part := range strings.Split(document, "#/components/schemas/")[1:] {
		names = append(names, part[:strings.IndexByte(part, '"')])
	}
	return names
}
