package api_test

import (
	"encoding/json"
	"strings"
	"testing"
)

const keySet = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestIssuers(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID) + "/issuers"
	create := map[string]any{"name": "idp", "issuer": "https://id.example.com", "audience": "keepmq",
		"algorithms": []string{"EdDSA", "ES256"}, "jwks": json.RawMessage(keySet)}
	var i struct {
		Name, Issuer, Audience, Claim string
		Algorithms                    []string
		KeyIDs                        []string `json:"key_ids"`
		JWKS                          struct{ Keys []map[string]string }
		Version                       int
	}
	a := f.ask(t, f.admin, "POST", org, create).is(t, 201)
	a.into(t, &i)
	if i.Name != "idp" || i.Claim != "sub" || i.Version != 1 || strings.Join(i.Algorithms, " ") != "ES256 EdDSA" ||
		strings.Join(i.KeyIDs, " ") != "k1" || len(i.JWKS.Keys) != 1 || i.JWKS.Keys[0]["kid"] != "k1" {
		t.Errorf("created %+v", i)
	}
	if got := a.header.Get("Location"); got != org+"/idp" {
		t.Errorf("Location %q", got)
	}
	f.ask(t, f.admin, "POST", org, create).is(t, 409)
	create["name"] = "other"
	f.ask(t, f.admin, "POST", org, create).is(t, 409) // the same iss
	f.ask(t, f.admin, "PATCH", org+"/idp", map[string]any{"audience": "fleet", "claim": "client_id"}).is(t, 200).into(t, &i)
	if i.Audience != "fleet" || i.Claim != "client_id" || i.Version != 2 || len(i.KeyIDs) != 1 || i.Issuer != "https://id.example.com" {
		t.Errorf("after the change: %+v", i)
	}
	if !strings.Contains(string(f.ask(t, f.admin, "GET", org, nil).is(t, 200).body), `"fleet"`) {
		t.Error("it is not in the list")
	}
	f.ask(t, f.admin, "GET", org+"/idp", nil).is(t, 200)
	f.ask(t, f.admin, "DELETE", org+"/idp", nil).is(t, 204)
	f.ask(t, f.admin, "GET", org+"/idp", nil).is(t, 404)
	f.ask(t, f.admin, "DELETE", org+"/idp", nil).is(t, 404)
	f.ask(t, f.admin, "PATCH", org+"/idp", map[string]any{"audience": "x"}).is(t, 404)
}

func TestIssuerRefused(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID) + "/issuers"
	for why, change := range map[string]map[string]any{
		"alg none":          {"algorithms": []string{"none"}},
		"HMAC":              {"algorithms": []string{"HS256"}},
		"no algorithm":      {"algorithms": []string{}},
		"no keys":           {"jwks": nil},
		"an empty set":      {"jwks": json.RawMessage(`{"keys":[]}`)},
		"a shared secret":   {"jwks": json.RawMessage(`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0LXRoYXQtd2FzLXNoYXJlZA"}]}`)},
		"a private key":     {"jwks": json.RawMessage(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)},
		"text for keys":     {"jwks": "https://id.example.com/jwks.json"},
		"no iss":            {"issuer": ""},
		"no audience":       {"audience": ""},
		"a control":         {"audience": "a\nb"},
		"an unknown field":  {"jwks_uri": "https://id.example.com/jwks.json"},
		"a name with slash": {"name": "a/b"},
	} {
		in := map[string]any{"name": "idp", "issuer": "https://id.example.com", "audience": "keepmq",
			"algorithms": []string{"EdDSA"}, "jwks": json.RawMessage(keySet)}
		for k, v := range change {
			in[k] = v
		}
		body := string(f.ask(t, f.admin, "POST", org, in).is(t, 422).body)
		if strings.Contains(body, "c2VjcmV0") || strings.Contains(body, "nWGxne") {
			t.Errorf("%s: the refusal repeats a secret: %s", why, body)
		}
	}
}
