package console_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/keepmq/keepmq/internal/console"
	"github.com/keepmq/keepmq/internal/registry"
)

func TestEveryAnswerIsProtected(t *testing.T) {
	f := start(t)
	check := func(method, path string, header ...string) {
		t.Helper()
		a := f.do(t, method, path, header...)
		csp := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
			"form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s %s: policy %q lacks %s", method, path, csp, part)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s %s: policy %q", method, path, csp)
		}
		for _, name := range []string{"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Permissions-Policy", "Cache-Control"} {
			if a.header.Get(name) == "" {
				t.Errorf("%s %s: no %s", method, path, name)
			}
		}
		if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && a.header.Get("Location") == "" {
			checkPage(t, method+" "+path, a.body)
		}
	}
	paths := []string{"/", "/sign-in", "/sign-in/x", "/nothing", "/assets/console.css", "/assets/live.js", "/assets/mark.svg", "/assets/none", "/assets/../x"}
	for _, p := range append(paths, "/events?org="+string(f.first.Org.ID)) {
		check("GET", p)
	}
	check("POST", "/sign-in/x")
	check("POST", "/sign-in/x", "Sec-Fetch-Site", "cross-site")
	f.signIn(t)
	for _, p := range append(paths, "/?org=zzzzzz", "/?org=!", "/?after=x") {
		check("GET", p)
	}
}

func TestOwnHost(t *testing.T) {
	for host, want := range map[string]bool{"mqtt.example.org": true, "mqtt.example.org:8443": true, "localhost": false, "localhost:8443": false,
		"a.localhost:1": false, "127.0.0.1:8443": false, "[::1]:8443": false, "::1": false} {
		if console.OwnHost(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}

var inline = regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`)

// checkPage checks that a page has nothing inline, nothing from elsewhere, and
// what assistive technology needs.
func checkPage(t *testing.T, name, body string) {
	t.Helper()
	if m := inline.FindString(body); m != "" {
		t.Errorf("%s has %q", name, m)
	}
	for _, want := range []string{`<html lang="en">`, `<title>`, `<main id="main"`, `href="#main"`, `name="viewport"`, "<h1>"} {
		if strings.Count(body, want) != 1 {
			t.Errorf("%s has %d × %s", name, strings.Count(body, want), want)
		}
	}
}

func TestSignInLink(t *testing.T) {
	f := start(t)
	link := "/sign-in/" + f.first.ConsoleCode.Reveal()
	for range 3 { // a preview, a scanner and the person
		a := f.do(t, "GET", link).is(t, 200).says(t, "<button")
		if a.header.Get("Set-Cookie") != "" {
			t.Error("looking at the link signs in")
		}
		if strings.Contains(a.body, f.first.ConsoleCode.Reveal()) {
			t.Error("the page repeats the code")
		}
	}
	a := f.do(t, "GET", "/").is(t, http.StatusSeeOther)
	if got := a.header.Get("Location"); got != "/sign-in" {
		t.Errorf("a stranger is sent to %q", got)
	}
	a = f.do(t, "POST", link).is(t, http.StatusSeeOther)
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-keepmq=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("cookie %q lacks %s", cookie, part)
		}
	}
	if strings.Contains(cookie, "Domain=") {
		t.Errorf("cookie %q is for other hosts", cookie)
	}
	f.do(t, "GET", "/").is(t, 200).says(t, f.first.Org.Name)
	f.do(t, "POST", link).is(t, http.StatusUnauthorized).says(t, "This link did not work")
	f.do(t, "POST", "/sign-in/never-made").is(t, http.StatusUnauthorized).says(t, "keepmq console link")
}

func TestCrossSiteRequestsAreRefused(t *testing.T) {
	f := start(t)
	link := "/sign-in/" + f.first.ConsoleCode.Reveal()
	f.do(t, "POST", link, "Sec-Fetch-Site", "cross-site").is(t, http.StatusForbidden)
	f.do(t, "POST", link, "Sec-Fetch-Site", "same-site").is(t, http.StatusForbidden)
	f.do(t, "POST", link, "Sec-Fetch-Site", "", "Origin", "https://evil.example").is(t, http.StatusForbidden)
	f.signIn(t) // none of them used it up
	f.do(t, "POST", "/sign-out", "Sec-Fetch-Site", "cross-site").is(t, http.StatusForbidden)
	f.do(t, "GET", "/").is(t, 200)
}

func TestSignOutEndsTheSession(t *testing.T) {
	f := start(t)
	f.signIn(t)
	f.do(t, "GET", "/sign-out").is(t, 404) // a link cannot sign anybody out
	a := f.do(t, "POST", "/sign-out").is(t, http.StatusSeeOther)
	if got := a.header.Get("Set-Cookie"); !strings.Contains(got, "Max-Age=0") {
		t.Errorf("cookie %q", got)
	}
	f.do(t, "GET", "/", "Cookie", "__Host-keepmq="+f.token).is(t, http.StatusSeeOther)
	f.do(t, "GET", "/events?org="+string(f.first.Org.ID), "Cookie", "__Host-keepmq="+f.token).is(t, http.StatusUnauthorized)
}

func TestOverviewShowsDevicesAndEscapes(t *testing.T) {
	f := start(t)
	f.signIn(t)
	ctx := context.Background()
	_, err := f.registry.CreateOrg(ctx, f.admin, registry.Org{ID: "second", Name: `<script>alert(1)</script>`})
	must(t, err)
	f.do(t, "GET", "/?org="+string(f.first.Org.ID)).is(t, 200).says(t, `data-source="sensor/sensor-1"`).says(t, `aria-current="page"`)
	a := f.do(t, "GET", "/?org=second").is(t, 200).says(t, "&lt;script&gt;alert(1)").says(t, "No devices yet")
	if strings.Contains(a.body, "<script>alert") {
		t.Error("a name became markup")
	}
	must(t, f.registry.SetDeviceDisabled(ctx, f.admin, f.first.Org.ID, "sensor", "sensor-1", true))
	f.do(t, "GET", "/?org="+string(f.first.Org.ID)).is(t, 200).says(t, "data-disabled")
	f.do(t, "GET", "/?org=zzzzzz").is(t, 404)
	f.do(t, "GET", "/?org="+string(f.first.Org.ID)+"&after=x").is(t, 400)
}

func TestOverviewPages(t *testing.T) {
	f := start(t)
	f.signIn(t)
	ctx := context.Background()
	for i := range 201 {
		_, _, err := f.registry.CreateDevice(ctx, f.admin, registry.Device{Org: f.first.Org.ID, Type: "sensor", ID: "x" + string(rune('a'+i/26)) + string(rune('a'+i%26))})
		must(t, err)
	}
	org := string(f.first.Org.ID)
	a := f.do(t, "GET", "/?org="+org).is(t, 200).says(t, `rel="next"`).says(t, "data-partial")
	if n := strings.Count(a.body, "data-source="); n != 200 {
		t.Errorf("%d devices on the first page", n)
	}
	next := regexp.MustCompile(`after=([^"]+)" rel="next"`).FindStringSubmatch(a.body)
	b := f.do(t, "GET", "/?org="+org+"&after="+next[1]).is(t, 200).says(t, "First page")
	if n := strings.Count(b.body, "data-source="); n != 2 {
		t.Errorf("%d devices on the second page", n)
	}
}

func TestAssets(t *testing.T) {
	f := start(t)
	a := f.do(t, "GET", "/assets/live.js").is(t, 200)
	if got := a.header.Get("Content-Type"); got != "text/javascript; charset=utf-8" {
		t.Errorf("media type %q", got)
	}
	f.do(t, "GET", "/assets/live.js", "If-None-Match", a.header.Get("ETag")).is(t, http.StatusNotModified)
	for _, unsafe := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"} {
		if strings.Contains(a.body, unsafe) {
			t.Errorf("the script uses %s", unsafe)
		}
	}
}

// A password signs in, and what is typed wrong says so without saying what.
func TestLogInWithAPassword(t *testing.T) {
	f := start(t)
	f.signIn(t)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	post := func(path string, values url.Values) answer {
		t.Helper()
		return f.post(t, path, values, form...)
	}
	post("/account/me", url.Values{"name": {"Ann <b>"}, "email": {"ann@example.com"}}).is(t, http.StatusOK).says(t, "Saved").says(t, "Ann &lt;b&gt;")
	post("/account/password", url.Values{"password": {"short"}}).is(t, http.StatusUnprocessableEntity).says(t, "at least 10 characters")
	post("/account/password", url.Values{"password": {"purple tractor sings oddly"}}).is(t, http.StatusOK).says(t, "The password is set")
	post("/account/nothing", nil).is(t, http.StatusNotFound)
	page := post("/account/factor", url.Values{"name": {"phone"}}).is(t, http.StatusOK).says(t, "data:image/png;base64,").body
	key := regexp.MustCompile(`class="key">([A-Z2-7]{32})<`).FindStringSubmatch(page)
	id := regexp.MustCompile(`name="id" value="([0-9a-f-]{36})"`).FindStringSubmatch(page)
	if key == nil || id == nil {
		t.Fatalf("no key or no id on the page: %s", page)
	}
	post("/account/confirm", url.Values{"id": {id[1]}, "code": {"000000"}}).is(t, http.StatusUnprocessableEntity).says(t, "The code is wrong")
	code, err := totp.GenerateCode(key[1], time.Now())
	must(t, err)
	post("/account/confirm", url.Values{"id": {id[1]}, "code": {code}}).is(t, http.StatusOK).says(t, "Your recovery codes").says(t, "10 recovery codes are left")
	f.do(t, "GET", "/account").is(t, http.StatusOK).says(t, "phone")

	f.do(t, "POST", "/sign-out").is(t, http.StatusSeeOther)
	f.do(t, "GET", "/account").is(t, http.StatusUnauthorized)
	in := url.Values{"email": {"ann@example.com"}, "password": {"wrong one"}}
	post("/sign-in", in).is(t, http.StatusUnauthorized).says(t, "is wrong").says(t, `value="ann@example.com"`)
	in.Set("password", "purple tractor sings oddly")
	page = post("/sign-in", in).is(t, http.StatusUnauthorized).says(t, "has a second factor").body
	if strings.Contains(page, "tractor") {
		t.Error("the page holds the password")
	}
	in.Set("code", code) // it was used
	post("/sign-in", in).is(t, http.StatusUnauthorized).says(t, "is wrong")
	code, err = totp.GenerateCode(key[1], time.Now().Add(30*time.Second))
	must(t, err)
	in.Set("code", code)
	post("/sign-in", in).is(t, http.StatusSeeOther)
	f.do(t, "GET", "/account").is(t, http.StatusOK).says(t, "Ann &lt;b&gt;")
}

// An administrator who is a member of nothing is told so, and sees no devices.
func TestOverviewOfAnAdministrator(t *testing.T) {
	f := start(t)
	f.signIn(t)
	org := f.first.Org.ID
	ctx := context.Background()
	_, code, err := f.registry.Invite(ctx, f.admin, registry.Invitation{Org: org, Email: "ann@example.com", Role: "owner"}, 0)
	must(t, err)
	_, _, err = f.registry.Enter(ctx, code, "Ann", registry.ForConsole, "", "")
	must(t, err)
	must(t, f.registry.RemoveMember(ctx, f.admin, org, f.admin.Principal.ID))
	f.do(t, "GET", "/").is(t, http.StatusOK).says(t, "You are a member of no organisation")
	f.do(t, "GET", "/?org="+string(org)).is(t, http.StatusForbidden)
}
