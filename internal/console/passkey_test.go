package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A ceremony ends once, for who began it, in the browser that began it.
func TestPasskeyCeremonies(t *testing.T) {
	f := start(t)
	port := strings.TrimPrefix(f.url, "https://127.0.0.1")
	// The fixture is known by an address, for which there are no passkeys.
	a := f.post(t, "/sign-in/passkey/ask", nil).is(t, http.StatusForbidden)
	if !strings.Contains(a.body, "open https://localhost") {
		t.Errorf("under an address: %s", a.body)
	}
	f.url = "https://localhost" + port
	take := func() answer { return f.send(t, "POST", "/sign-in/passkey/take", strings.NewReader(`{"id":"AA"}`)) }
	refused := func(a answer, says string) {
		t.Helper()
		if a.is(t, http.StatusForbidden); !strings.Contains(a.body, says) {
			t.Errorf("%s, want %s", a.body, says)
		}
	}
	refused(take(), "began elsewhere")
	ask := f.post(t, "/sign-in/passkey/ask", nil).is(t, http.StatusOK)
	var options struct{ RPID, Challenge string }
	if err := json.Unmarshal([]byte(ask.body), &options); err != nil || options.RPID != "localhost" || len(options.Challenge) < 40 {
		t.Errorf("%s, %v", ask.body, err)
	}
	here, _ := url.Parse(f.url)
	kept := f.client.Jar.Cookies(here)
	refused(take(), "is not good")
	refused(take(), "began elsewhere")
	f.client.Jar.SetCookies(here, kept)
	refused(take(), "began elsewhere") // the same again

	f.post(t, "/account/passkey/make", nil).is(t, http.StatusUnauthorized)
	f.signIn(t)
	f.post(t, "/sign-in/passkey/ask", nil).is(t, http.StatusOK)
	refused(f.post(t, "/account/passkey/keep", nil), "began elsewhere") // one that signs in makes none
	f.post(t, "/account/passkey/make", nil).is(t, http.StatusOK)
	refused(take(), "began elsewhere")
	f.post(t, "/account/passkey/make", nil).is(t, http.StatusOK)
	refused(f.post(t, "/account/passkey/keep?name=x", nil), "is not good")
	f.post(t, "/sign-in/passkey/ask", nil, "Sec-Fetch-Site", "cross-site").is(t, http.StatusForbidden)
	f.send(t, "POST", "/account/passkey/keep", strings.NewReader(strings.Repeat("x", 17<<10))).is(t, http.StatusForbidden)
}
