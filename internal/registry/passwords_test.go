package registry

import (
	"context"
	"encoding/base32"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	annsEmail    = "ann@example.com"
	annsPassword = "purple tractor sings oddly"
	home1        = "192.0.2.50:1000"
)

// A guest is a person with a password, who is signed in with a link.
func (w *world) withPassword(t *testing.T) Actor {
	t.Helper()
	ctx := t.Context()
	b := w.bootstrapped(t)
	_, a := w.signIn(t, b.ConsoleCode)
	email := "Ann@Example.com"
	_, err := w.SetMe(ctx, a, PersonChange{Email: &email})
	check(t, err)
	check(t, w.SetPassword(ctx, a, secret.String{}, secret.New(annsPassword)))
	return a
}

func (w *world) logIn(ctx context.Context, pw, code, from string) (secret.String, Actor, error) {
	return w.LogIn(ctx, Login{Email: annsEmail, Password: secret.New(pw), Code: secret.New(code), Purpose: ForConsole}, from, "test/1.0")
}

func TestLogIn(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	token, who, err := w.LogIn(ctx, Login{Email: " ANN@example.com ", Password: secret.New(annsPassword), Purpose: ForConsole}, home1, "x")
	check(t, err)
	if who.Principal != a.Principal || !who.Admin || who.Verified || who.Session == "" {
		t.Errorf("%+v", who)
	}
	if again, err := w.Session(ctx, token, home1); err != nil || again.Session != who.Session {
		t.Errorf("%+v %v", again, err)
	}
	// Every refusal is the same.
	answers := map[string]bool{}
	for _, l := range []Login{
		{Email: annsEmail, Password: secret.New("wrong")},
		{Email: "nobody@example.com", Password: secret.New(annsPassword)},
		{Email: annsEmail},
		{Email: "", Password: secret.New(annsPassword)},
	} {
		_, _, err := w.LogIn(ctx, l, home1, "x")
		if errs.CodeOf(err) == errs.Invalid && l.Email == "" {
			continue
		}
		wantCode(t, err, errs.Unauthenticated)
		answers[err.Error()] = true
	}
	if len(answers) != 1 {
		t.Errorf("%v", answers)
	}
	if got := w.records(t); !slices.Contains(got, "signin.refuse") || !slices.Contains(got, "signin") || !slices.Contains(got, "password.set") {
		t.Errorf("records %q", got)
	}
	// The password and its hash are in neither the log nor the record.
	check(t, w.db.DB.View(store.ForAll(ctx), func(tx *store.Tx) error {
		var n int
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_event WHERE record LIKE '%argon2%' OR record LIKE '%tractor%'`).Scan(&n)
		if n != 0 {
			t.Errorf("%d records hold a password or its hash", n)
		}
		return err
	}))
	if strings.Contains(w.log.String(), "tractor") {
		t.Error("the log holds a password")
	}
	w.db.fail(errDisk)
	_, _, err = w.logIn(ctx, annsPassword, "", home1)
	wantCode(t, err, errs.Unavailable)
	w.db.fail(nil)
	check(t, w.SetPersonDisabled(ctx, systemActor("x"), a.Principal.ID, true))
	_, _, err = w.logIn(ctx, annsPassword, "", home1)
	wantCode(t, err, errs.Unauthenticated)
}

// Who guesses waits; whoever signed in from a network before does not wait for
// them.
func TestLogInIsThrottled(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.withPassword(t)
	_, _, err := w.logIn(ctx, annsPassword, "", home1)
	check(t, err)
	var refused errs.Code
	n := 0
	for ; n < 100 && refused != errs.Exhausted; n++ { // from everywhere
		_, _, err := w.logIn(ctx, "guess", "", fmt.Sprintf("198.51.100.%d:1", n))
		refused = errs.CodeOf(err)
	}
	if n > triesBurst+1 || refused != errs.Exhausted {
		t.Fatalf("%d guesses from as many addresses", n)
	}
	_, _, err = w.logIn(ctx, annsPassword, "", "198.51.100.200:1")
	wantCode(t, err, errs.Exhausted)
	if !strings.Contains(errs.Message(err), "try again in") {
		t.Errorf("%v", err)
	}
	if _, _, err := w.logIn(ctx, annsPassword, "", "192.0.2.50:7777"); err != nil {
		t.Errorf("she is locked out by others: %v", err)
	}
	w.clock.move(triesEvery)
	if _, _, err := w.logIn(ctx, annsPassword, "", "198.51.100.201:1"); err != nil {
		t.Errorf("after a while: %v", err)
	}
	for range knownBurst {
		_, _, err = w.logIn(ctx, "guess", "", home1)
		wantCode(t, err, errs.Unauthenticated)
	}
	_, _, err = w.logIn(ctx, annsPassword, "", home1)
	wantCode(t, err, errs.Exhausted)
	// Nobody is told by it whether an address is known.
	for range triesBurst {
		_, _, err = w.LogIn(ctx, Login{Email: "nobody@example.com", Password: secret.New("x")}, "203.0.113.9:1", "")
		wantCode(t, err, errs.Unauthenticated)
	}
	_, _, err = w.LogIn(ctx, Login{Email: "nobody@example.com", Password: secret.New("x")}, "203.0.113.9:1", "")
	wantCode(t, err, errs.Exhausted)
}

// A hash that somebody brought along is replaced by one of ours at the next sign-in.
func TestLogInRenewsTheHash(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	const bcrypt = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2" // "correct horse"
	stored := func(set string) (s string) {
		check(t, w.db.DB.Update(store.ForAll(ctx), func(tx *store.Tx) error {
			if set != "" {
				if _, err := tx.ExecContext(ctx, `UPDATE person SET password = $2 WHERE id = $1`, a.Principal.ID, set); err != nil {
					return err
				}
			}
			return tx.QueryRowContext(ctx, `SELECT password FROM person WHERE id = $1`, a.Principal.ID).Scan(&s)
		}))
		return s
	}
	stored(bcrypt)
	_, _, err := w.logIn(ctx, "correct horse", "", home1)
	check(t, err)
	if s := stored(""); !strings.HasPrefix(s, "$argon2id$") {
		t.Errorf("stored %q", s)
	}
	_, _, err = w.logIn(ctx, "correct horse", "", home1)
	check(t, err)
	stored("rubbish")
	_, _, err = w.logIn(ctx, "correct horse", "", home1)
	wantCode(t, err, errs.Unavailable)
}

func TestSetPassword(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	other, _, err := w.logIn(ctx, annsPassword, "", home1)
	check(t, err)
	set := func(old, fresh string) error { return w.SetPassword(ctx, a, secret.New(old), secret.New(fresh)) }
	wantCode(t, set("", "another long and fine one"), errs.Denied)
	wantCode(t, set("wrong", "another long and fine one"), errs.Denied)
	wantCode(t, set(annsPassword, "short"), errs.Invalid)
	wantCode(t, set(annsPassword, "ann@example.com"), errs.Invalid)
	check(t, set(annsPassword, "another long and fine one"))
	_, err = w.Session(ctx, other, home1)
	wantCode(t, err, errs.Unauthenticated)
	_, _, err = w.logIn(ctx, annsPassword, "", home1)
	wantCode(t, err, errs.Unauthenticated)
	for range triesBurst {
		if err = set("wrong", "another long and fine one"); errs.CodeOf(err) == errs.Exhausted {
			break
		}
	}
	wantCode(t, set("wrong", "x"), errs.Exhausted) // a stolen session does not guess
	wantCode(t, w.SetPassword(ctx, systemActor("x"), secret.String{}, secret.New("x")), errs.Denied)
	b := w.newPerson(t, "bob")
	wantCode(t, w.SetPassword(ctx, b, secret.String{}, secret.New(annsPassword)), errs.Invalid) // no address yet
	taken, bad, none := annsEmail, "x", ""
	wantCode(t, second(w.SetMe(ctx, b, PersonChange{Email: &taken})), errs.Invalid)
	wantCode(t, second(w.SetMe(ctx, b, PersonChange{Email: &bad})), errs.Invalid)
	wantCode(t, second(w.SetMe(ctx, b, PersonChange{Name: &none})), errs.Invalid)
	check(t, second(w.SetMe(ctx, b, PersonChange{Email: &none})))
}

// code returns what an authenticator shows at a time.
func code(t *testing.T, link secret.String, at time.Time) string {
	t.Helper()
	u, err := url.Parse(link.Reveal())
	check(t, err)
	if u.Scheme != "otpauth" || u.Query().Get("issuer") != "KeepMQ" || !strings.Contains(u.Path, annsEmail) {
		t.Errorf("%s", u.Redacted())
	}
	if raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret")); err != nil || len(raw) != 20 {
		t.Errorf("a secret of %d bytes, %v", len(raw), err)
	}
	s, err := totp.GenerateCode(u.Query().Get("secret"), at)
	check(t, err)
	return s
}

func TestSecondFactor(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	const period = totpPeriod * time.Second
	w.clock.move(period - time.Duration(w.now().UnixNano()%int64(period))) // to the beginning of a step
	f, link, err := w.AddFactor(ctx, a, "telephone")
	check(t, err)
	if _, _, err := w.logIn(ctx, annsPassword, "", home1); err != nil {
		t.Errorf("one that is not confirmed counts: %v", err)
	}
	wantCode(t, second(w.ConfirmFactor(ctx, a, f.ID, secret.New("000000"))), errs.Denied)
	recovery, err := w.ConfirmFactor(ctx, a, f.ID, secret.New(code(t, link, w.now())))
	check(t, err)
	if len(recovery) != recoveries {
		t.Fatalf("%d recovery codes", len(recovery))
	}
	all, left, err := w.Factors(ctx, a)
	if check(t, err); len(all) != 1 || !all[0].Confirmed || left != recoveries {
		t.Errorf("%+v %d", all, left)
	}
	// The code that confirmed is used. (The next one does not begin meanwhile.)
	_, _, err = w.logIn(ctx, annsPassword, "", home1)
	if err != ErrSecondFactor {
		t.Errorf("without a code: %v", err)
	}
	_, _, err = w.logIn(ctx, annsPassword, code(t, link, w.now()), home1)
	wantCode(t, err, errs.Unauthenticated)
	w.clock.move(totpPeriod * time.Second)
	now := code(t, link, w.now())
	_, _, err = w.logIn(ctx, "wrong", now, home1) // it is not used up by a wrong password
	wantCode(t, err, errs.Unauthenticated)
	_, who, err := w.logIn(ctx, annsPassword, now[:3]+" "+now[3:], home1)
	if check(t, err); !who.Verified {
		t.Error("not verified")
	}
	_, _, err = w.logIn(ctx, annsPassword, now, home1)
	wantCode(t, err, errs.Unauthenticated) // each is good once
	w.clock.move(10 * totpPeriod * time.Second)
	old := code(t, link, w.now().Add(-3*totpPeriod*time.Second))
	_, _, err = w.logIn(ctx, annsPassword, old, home1)
	wantCode(t, err, errs.Unauthenticated)

	one := strings.ToLower(recovery[0].Reveal())
	_, who, err = w.logIn(ctx, annsPassword, one, home1)
	if check(t, err); !who.Verified {
		t.Error("not verified by a recovery code")
	}
	_, _, err = w.logIn(ctx, annsPassword, one, home1)
	wantCode(t, err, errs.Unauthenticated)
	if _, left, _ := w.Factors(ctx, who); left != recoveries-1 {
		t.Errorf("%d recovery codes are left", left)
	}
	// A session that has proved none neither adds nor removes.
	unproved := a
	unproved.Verified = false
	wantCode(t, third(w.AddFactor(ctx, unproved, "x")), errs.Denied)
	wantCode(t, w.DeleteFactor(ctx, unproved, f.ID), errs.Denied)
	wantCode(t, second(w.RenewRecoveries(ctx, unproved)), errs.Denied)
	fresh, err := w.RenewRecoveries(ctx, who)
	if check(t, err); len(fresh) != recoveries || slices.Contains(fresh, recovery[1]) {
		t.Error("not renewed")
	}
	_, _, err = w.logIn(ctx, annsPassword, recovery[1].Reveal(), home1)
	wantCode(t, err, errs.Unauthenticated)
	wantCode(t, w.DeleteFactor(ctx, who, "nope"), errs.NotFound)
	check(t, w.DeleteFactor(ctx, who, f.ID))
	if _, left, err := w.Factors(ctx, who); err != nil || left != 0 {
		t.Errorf("%d recovery codes without a factor, %v", left, err)
	}
	_, who, err = w.logIn(ctx, annsPassword, "", home1)
	if check(t, err); who.Verified {
		t.Error("verified without a factor")
	}
	wantCode(t, second(w.RenewRecoveries(ctx, who)), errs.Invalid)
	wantCode(t, third(w.AddFactor(ctx, systemActor("x"), "x")), errs.Denied)
}

// Guessing a code in a session that is signed in is bounded.
func TestGuessingCodes(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	f, link, err := w.AddFactor(ctx, a, "")
	check(t, err)
	_, err = w.ConfirmFactor(ctx, a, f.ID, secret.New(code(t, link, w.now())))
	check(t, err)
	var n int
	for n = 0; n < 100; n++ {
		if err := w.VerifySession(ctx, a, secret.New(fmt.Sprintf("%06d", n))); errs.CodeOf(err) == errs.Exhausted {
			break
		}
	}
	if n > triesBurst {
		t.Errorf("%d guesses", n)
	}
}

// In an organisation that asks for a second factor, who has proved none sees
// nothing but that, at the API and at MQTT; API keys are not concerned.
func TestSecondFactorIsAskedFor(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	org, _ := w.simple(t)
	w.join(t, org, a.Principal.ID, "owner")
	wantCode(t, w.SetSecondFactor(ctx, a, org, true), errs.Denied) // oneself first
	f, link, err := w.AddFactor(ctx, a, "")
	check(t, err)
	_, err = w.ConfirmFactor(ctx, a, f.ID, secret.New(code(t, link, w.now())))
	check(t, err)
	linkToken, err := w.NewAccessCode(ctx, systemActor("cli"))
	check(t, err)
	cli, plain := w.signIn(t, linkToken)
	login := auth.Credentials{ClientID: "a:" + string(org) + ":x", HasUsername: true, Username: userAccessToken, HasPassword: true, Password: cli}
	g, err := w.Verify(ctx, login)
	check(t, err)
	p, token := w.newApplication(t, org)
	verified := a
	verified.Verified = true
	check(t, w.SetSecondFactor(ctx, verified, org, true))
	for what, err := range map[string]error{
		"device":  second(w.Device(ctx, plain, org, "t", "d")),
		"members": third(w.Members(ctx, plain, org, Page{})),
		"off":     w.SetSecondFactor(ctx, plain, org, false),
		"connect": second(w.Verify(ctx, login)),
		"go on":   second(w.Renew(ctx, g.Ref())),
	} {
		if errs.CodeOf(err) != errs.Denied || !strings.Contains(errs.Message(err), "second factor") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.Verify(ctx, applicationLogin(p, token)); err != nil {
		t.Errorf("an API key: %v", err)
	}
	w.clock.move(totpPeriod * time.Second)
	check(t, w.VerifySession(ctx, plain, secret.New(code(t, link, w.now()))))
	proved, err := w.Session(ctx, cli, home1)
	check(t, err)
	check(t, second(w.Device(ctx, proved, org, "t", "d")))
	check(t, second(w.Verify(ctx, login)))
	check(t, w.SetSecondFactor(ctx, proved, org, false))
}

// A sign-in from where nobody knows is told to its owner, once.
func TestNewDeviceIsTold(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	var told []string
	w.notify = func(_ context.Context, p Person, subject, text string) {
		if p.ID != a.Principal.ID || p.Email != annsEmail || subject == "" {
			t.Errorf("%+v %q", p, subject)
		}
		told = append(told, text)
	}
	for _, tt := range []struct {
		from, with string
		news       bool
	}{
		{home1, "firefox", true}, {home1, "firefox", false}, {"192.0.2.50:9", "firefox", false},
		{"198.51.100.1:9", "firefox", true}, {"198.51.100.1:9", "curl", true}, {home1, "curl", false},
		{"[2001:db8::1]:9", "curl", true}, {"[2001:db8::2]:9", "curl", false},
	} {
		before := len(told)
		_, _, err := w.LogIn(ctx, Login{Email: annsEmail, Password: secret.New(annsPassword), Purpose: ForConsole}, tt.from, tt.with)
		check(t, err)
		if (len(told) > before) != tt.news {
			t.Errorf("from %s with %s: told %v", tt.from, tt.with, !tt.news)
		}
	}
	if n := w.count(t, "person_known"); n > maxKnown {
		t.Errorf("%d are remembered", n)
	}
}

func TestSessionsAreSeen(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.withPassword(t)
	token, a, err := w.logIn(ctx, annsPassword, "", home1)
	check(t, err)
	_, err = w.Session(ctx, token, home1)
	check(t, err)
	w.clock.move(2 * useEvery)
	_, err = w.Session(ctx, token, "203.0.113.1")
	check(t, err)
	all, err := w.Sessions(ctx, a)
	check(t, err)
	i := slices.IndexFunc(all, func(s Session) bool { return s.ID == a.Session })
	if i < 0 || all[i].UsedFrom != "203.0.113.1" || all[i].Used.Sub(all[i].Created) < useEvery || all[i].Address != home1 {
		t.Errorf("%+v", all)
	}
	if len(all) < 2 {
		t.Fatalf("%d sessions", len(all))
	}
	check(t, w.EndOtherSessions(ctx, a))
	if all, err := w.Sessions(ctx, a); err != nil || len(all) != 1 || all[0].ID != a.Session {
		t.Errorf("%+v %v", all, err)
	}
	wantCode(t, w.EndOtherSessions(ctx, systemActor("x")), errs.Denied)
}

func TestThrottle(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1000, 0)
	k, other := try{"k", time.Minute, 3}, try{"other", time.Minute, 9}
	for range 3 {
		if d := th.take(now, k, other); d != 0 {
			t.Fatal(d)
		}
	}
	if d := th.take(now, k, other); d < 59*time.Second || d > time.Minute {
		t.Error(d)
	}
	if d := th.take(now.Add(30*time.Second), k); d < 29*time.Second || d > 31*time.Second {
		t.Error(d)
	}
	for range 6 { // nothing was taken of it where there was a wait for k
		if d := th.take(now, other); d != 0 {
			t.Error(d)
		}
	}
	if d := th.take(now.Add(61*time.Second), k); d != 0 {
		t.Error(d)
	}
	th.back(now.Add(61*time.Second), k)
	if d := th.take(now.Add(61*time.Second), k); d != 0 {
		t.Error("not given back", d)
	}
	for i := range 100_000 { // nobody is pushed out
		th.take(now, try{fmt.Sprint(i), time.Minute, 3})
	}
	if d := th.take(now.Add(62*time.Second), k); d == 0 {
		t.Error("forgotten")
	}
}

// As many guesses at one time are no more than one after the other.
func TestGuessesAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	f, link, err := w.AddFactor(ctx, a, "")
	check(t, err)
	_, err = w.ConfirmFactor(ctx, a, f.ID, secret.New(code(t, link, w.now())))
	check(t, err)
	for what, tt := range map[string]struct {
		code  errs.Code
		limit int
		guess func(n int) error
	}{
		"passwords": {errs.Unauthenticated, knownBurst, func(n int) error {
			return third(w.logIn(ctx, fmt.Sprint("guess", n), "", "203.0.113.77:1"))
		}},
		"codes": {errs.Denied, triesBurst, func(n int) error { return w.VerifySession(ctx, a, secret.New(fmt.Sprintf("%06d", n))) }},
	} {
		var answers [40]errs.Code
		var wg sync.WaitGroup
		for n := range answers {
			wg.Go(func() { answers[n] = errs.CodeOf(tt.guess(n)) })
		}
		wg.Wait()
		tried := 0
		for _, code := range answers {
			if code == tt.code {
				tried++
			} else if code != errs.Exhausted {
				t.Errorf("%s: answer %d", what, code)
			}
		}
		if tried == 0 || tried > tt.limit+1 { // one more comes free while the test takes its time
			t.Errorf("%s: %d of %d were tried at one time", what, tried, len(answers))
		}
	}
}

// A sign-in from where, or with what, the person never signed in is a record of its
// own, also with a code; the first sign-in of all is no news.
func TestNewDeviceIsOnRecord(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	told := 0
	w.notify = func(context.Context, Person, string, string) { told++ }
	news := func() (n int) {
		for _, action := range w.records(t) {
			if action == "signin.new_device" {
				n++
			}
		}
		return n
	}
	a := w.withPassword(t)
	if news() != 0 || told != 0 {
		t.Errorf("the first sign-in: %d records, told %d times", news(), told)
	}
	sign := func(from, with string) {
		c, err := w.NewSignInCode(ctx, systemActor("x"))
		check(t, err)
		check(t, third(w.SignIn(ctx, c, from, with)))
	}
	sign(home1, "firefox")
	check(t, third(w.logIn(ctx, annsPassword, "", home1)))
	if news() != 2 || told != 2 {
		t.Errorf("with a code, then with another program: %d records, told %d times", news(), told)
	}
	sign(home1, "firefox")
	check(t, third(w.logIn(ctx, annsPassword, "", home1)))
	wantCode(t, third(w.logIn(ctx, "wrong", "", "198.51.100.3:1")), errs.Unauthenticated)
	if news() != 2 || told != 2 {
		t.Errorf("known, or refused: %d records, told %d times", news(), told)
	}
	if a.Session == "" {
		t.Error("no session")
	}
}

// The names of one's organisations are no part of a password.
func TestPasswordNamesTheOrganisation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.withPassword(t)
	o, err := w.CreateOrg(ctx, w.admin, Org{Name: "Northplant Works", Profile: ProfilePlain})
	check(t, err)
	fresh := secret.New("our northplant sings oddly")
	w.join(t, o.ID, a.Principal.ID, "owner")
	wantCode(t, w.SetPassword(ctx, a, secret.New(annsPassword), fresh), errs.Invalid)
	wantCode(t, w.SetPassword(ctx, a, secret.New(annsPassword), secret.New("ours is "+string(o.ID)+" oddly")), errs.Invalid)
	check(t, w.RemoveMember(ctx, a, o.ID, a.Principal.ID))
	check(t, w.SetPassword(ctx, a, secret.New(annsPassword), fresh))
}
