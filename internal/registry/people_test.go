package registry

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

func (w *world) bootstrapped(t testing.TB) BootstrapResult {
	t.Helper()
	b, err := w.Bootstrap(t.Context())
	check(t, err)
	return b
}

func (w *world) signIn(t testing.TB, code secret.String) (secret.String, Actor) {
	t.Helper()
	token, a, err := w.SignIn(t.Context(), code, "192.0.2.7:1", "browser")
	check(t, err)
	return token, a
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	b := w.bootstrapped(t)
	token, a := w.signIn(t, b.ConsoleCode)
	if !a.Admin || a.Principal != (auth.Principal{Kind: auth.Person, ID: b.Administrator.ID}) || a.Address == "" {
		t.Errorf("%+v", a)
	}
	again, err := w.Session(ctx, token, "192.0.2.8:1")
	check(t, err)
	if again.Principal != a.Principal || !again.Admin || again.Session != a.Session || again.Address != "192.0.2.8:1" {
		t.Errorf("%+v", again)
	}
	if got := w.records(t); got[len(got)-1] != "signin" {
		t.Error(got)
	}
	p, err := w.Person(ctx, a, b.Administrator.ID)
	check(t, err)
	if p != b.Administrator {
		t.Errorf("%+v", p)
	}
	_, err = w.Person(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: "x"}}, b.Administrator.ID)
	wantCode(t, err, errs.NotFound)
}

// Every refused sign-in looks the same and is on the record, up to a budget.
func TestSignInRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	b := w.bootstrapped(t)
	w.signIn(t, b.ConsoleCode)
	old, err := w.NewSignInCode(ctx, systemActor("cli"))
	check(t, err)
	w.clock.move(CodeLife)
	var answers []string
	for _, code := range []secret.String{b.ConsoleCode, old, newToken(), secret.New(""), {}} {
		before := len(w.records(t))
		token, a, err := w.SignIn(ctx, code, "192.0.2.7:1", "browser")
		wantCode(t, err, errs.Unauthenticated)
		if token != (secret.String{}) || a != (Actor{}) {
			t.Fatal("a refusal gives something away")
		}
		answers = append(answers, err.Error())
		if got := w.records(t)[before:]; !slices.Equal(got, []string{"signin.refuse"}) {
			t.Fatalf("records %q", got)
		}
	}
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("answers differ: %q", answers)
	}
	before := len(w.records(t))
	for range 2 * budgetSize {
		_, _, err := w.SignIn(ctx, newToken(), "192.0.2.7:1", "browser")
		wantCode(t, err, errs.Unauthenticated)
	}
	if got := len(w.records(t)) - before; got > 2*budgetSize-5 {
		t.Errorf("guesses left %d records", got)
	}
}

func TestSignInCodeIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	b := w.bootstrapped(t)
	var wg sync.WaitGroup
	good := make(chan string, 8)
	for range 8 {
		wg.Go(func() {
			if token, _, err := w.SignIn(t.Context(), b.ConsoleCode, "", ""); err == nil {
				good <- token.Reveal()
			}
		})
	}
	wg.Wait()
	if len(good) != 1 {
		t.Fatalf("%d sign-ins with one code", len(good))
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	b := w.bootstrapped(t)
	console, a := w.signIn(t, b.ConsoleCode)
	cli, _ := w.signIn(t, b.CLICode)
	list, err := w.Sessions(ctx, a)
	check(t, err)
	if len(list) != 2 || list[0].Purpose != ForConsole || list[1].Purpose != ForCLI || list[0].UserAgent != "browser" ||
		list[0].Expires.Sub(list[0].Created) != ConsoleLife || list[1].Expires.Sub(list[1].Created) != AccessLife {
		t.Fatalf("%+v", list)
	}
	w.clock.move(ConsoleLife)
	_, err = w.Session(ctx, console, "")
	wantCode(t, err, errs.Unauthenticated)
	_, err = w.Session(ctx, cli, "")
	check(t, err)

	check(t, w.SignOut(ctx, cli))
	_, err = w.Session(ctx, cli, "")
	wantCode(t, err, errs.Unauthenticated)
	wantCode(t, w.SignOut(ctx, cli), errs.Unauthenticated)

	code, err := w.NewAccessCode(ctx, a)
	check(t, err)
	cli, other := w.signIn(t, code)
	stranger := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "x"}}
	wantCode(t, w.RevokeSession(ctx, stranger, other.Session), errs.NotFound)
	wantCode(t, w.RevokeSession(ctx, systemActor("x"), other.Session), errs.Denied)
	check(t, w.RevokeSession(ctx, a, other.Session))
	_, err = w.Session(ctx, cli, "")
	wantCode(t, err, errs.Unauthenticated)
	w.clock.move(AccessLife)
	if list, err := w.Sessions(ctx, a); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

func TestWhoGetsASignInCode(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.NewSignInCode(ctx, systemActor("cli"))
	wantCode(t, err, errs.NotFound)
	b := w.bootstrapped(t)
	for name, a := range map[string]Actor{
		"nobody":      {},
		"person":      {Principal: auth.Principal{Kind: auth.Person, ID: b.Administrator.ID}},
		"application": {Principal: b.Application.Principal()},
		"odd one":     {Principal: b.Application.Principal(), Admin: true},
	} {
		if _, err := w.NewSignInCode(ctx, a); errs.CodeOf(err) != errs.Denied || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	code, err := w.NewSignInCode(ctx, systemActor("cli"))
	check(t, err)
	if _, a := w.signIn(t, code); a.Principal.ID != b.Administrator.ID {
		t.Errorf("%+v", a)
	}
}

func TestStrangersTextsAreClipped(t *testing.T) {
	w := newWorld(t)
	b := w.bootstrapped(t)
	_, a, err := w.SignIn(t.Context(), b.ConsoleCode, "x", "\x1b[2J"+strings.Repeat("é", 5000)+"\xff")
	check(t, err)
	list, err := w.Sessions(t.Context(), a)
	check(t, err)
	if ua := list[0].UserAgent; strings.ContainsAny(ua, "\x1b") || len([]rune(ua)) != 200 {
		t.Errorf("%q", ua)
	}
}

func TestBootstrapOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.db.fail(errDisk)
	_, err := w.Bootstrap(ctx)
	wantCode(t, err, errs.Unavailable)
	w.db.fail(nil)
	if orgs, _, err := w.Orgs(ctx, w.admin, Page{}); err != nil || len(orgs) != 0 {
		t.Fatalf("an interrupted first start left %+v %v", orgs, err)
	}

	var wg sync.WaitGroup
	results := make(chan BootstrapResult, 4)
	for range cap(results) {
		wg.Go(func() {
			b, err := w.Bootstrap(ctx)
			if err != nil {
				t.Error(err)
			}
			results <- b
		})
	}
	wg.Wait()
	close(results)
	var first []BootstrapResult
	for b := range results {
		if !b.Already {
			first = append(first, b)
		} else if !reflect.DeepEqual(b, BootstrapResult{Already: true, Org: Org{ID: b.Org.ID}}) || b.Org.ID == "" {
			t.Errorf("shown again: %+v", b)
		}
	}
	if len(first) != 1 {
		t.Fatalf("%d first starts", len(first))
	}
	b := first[0]
	g, err := w.Verify(ctx, deviceLogin(b.Org.ID, b.Device.Type+":"+b.Device.ID, b.DeviceToken))
	check(t, err)
	if g.Principal() != b.Device.Principal() {
		t.Error(g.Principal())
	}
	_, err = w.Verify(ctx, applicationLogin(b.Application, b.ApplicationToken))
	check(t, err)
	w.signIn(t, b.ConsoleCode)
	if b := w.bootstrapped(t); !b.Already || !b.SignedIn {
		t.Errorf("%+v", b)
	}
}

func TestReissueUntilSomebodySignedIn(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.Reissue(ctx)
	wantCode(t, err, errs.NotFound)
	first := w.bootstrapped(t)
	second, err := w.Reissue(ctx)
	check(t, err)
	if second.Org.ID != first.Org.ID || second.Administrator != first.Administrator {
		t.Errorf("%+v, first %+v", second, first)
	}
	_, _, err = w.SignIn(ctx, first.ConsoleCode, "", "")
	wantCode(t, err, errs.Unauthenticated)
	// What does not sign anybody in goes on.
	_, err = w.Verify(ctx, deviceLogin(first.Org.ID, "sensor:sensor-1", first.DeviceToken))
	check(t, err)
	_, err = w.Verify(ctx, applicationLogin(first.Application, first.ApplicationToken))
	check(t, err)
	if second.DeviceToken.Reveal()+second.ApplicationToken.Reveal() != "" {
		t.Error("tokens were shown again")
	}

	check(t, w.DeleteOrg(ctx, w.admin, first.Org.ID)) // which a person outlives
	third, err := w.Reissue(ctx)
	check(t, err)
	w.signIn(t, third.CLICode)
	_, err = w.Reissue(ctx)
	wantCode(t, err, errs.Conflict)
}
