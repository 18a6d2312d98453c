package password

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/secret"
)

// Hashes of "correct horse" that other programs made.
var foreign = map[string]string{
	"mosquitto_passwd":  "$7$101$FiJ9gNI7KuKnJj4f$FX/QoyY/COxcc8/jfBQBLEPA6XHZXBZ3f6D2UHCOTrx6FoXR22Ai+EVsDwZ56gkiaHAcuK/SuGyxx95qQl7GWA==",
	"mosquitto-go-auth": "PBKDF2$sha512$1000$c2FsdHNhbHRzYWx0c2FsdA==$EHLBej+uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3SmizNDWZsIi28RPGARe0EssjGRoiACzxgHjNvqwJY1zxKig==",
	"PHC":               "$pbkdf2-sha512$i=1000$c2FsdHNhbHRzYWx0c2FsdA$EHLBej+uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3SmizNDWZsIi28RPGARe0EssjGRoiACzxgHjNvqwJY1zxKig",
	"passlib":           "$pbkdf2-sha512$1000$c2FsdHNhbHRzYWx0c2FsdA$EHLBej.uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3SmizNDWZsIi28RPGARe0EssjGRoiACzxgHjNvqwJY1zxKig",
	"crypt, 2b":         "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
	"crypt, 2y":         "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
}

func TestHash(t *testing.T) {
	ctx := t.Context()
	p := secret.New("correct horse battery staple")
	stored, err := Hash(ctx, p)
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(stored, "horse") {
		t.Fatalf("%q %v", stored, err)
	}
	again, err := Hash(ctx, p)
	if err != nil || again == stored {
		t.Errorf("no salt: %v", err)
	}
	for pw, want := range map[string]bool{p.Reveal(): true, "correct horse battery stapl": false, "": false, strings.Repeat("x", 10_000): false} {
		ok, outdated, err := Verify(ctx, stored, secret.New(pw))
		if ok != want || outdated || err != nil {
			t.Errorf("%.30q: %v %v %v", pw, ok, outdated, err)
		}
	}
	if ok, _, err := Verify(ctx, "", secret.New("")); ok || err != nil {
		t.Errorf("nothing stored: %v %v", ok, err)
	}
	if ok, _, err := Verify(ctx, "", secret.New(strings.Repeat("\x00", 32))); ok || err != nil {
		t.Errorf("the decoy lets in: %v %v", ok, err)
	}
}

// People keep their passwords when they move here, and get a new hash.
func TestForeign(t *testing.T) {
	for name, stored := range foreign {
		for pw, want := range map[string]bool{"correct horse": true, "correct horsf": false, "": false} {
			ok, outdated, err := Verify(t.Context(), stored, secret.New(pw))
			if ok != want || !outdated || err != nil {
				t.Errorf("%s, %q: %v %v %v", name, pw, ok, outdated, err)
			}
		}
	}
	// From the tests of the reference implementation, at another cost than ours.
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, outdated, err := Verify(t.Context(), reference, secret.New("password")); !ok || !outdated || err != nil {
		t.Errorf("%v %v %v", ok, outdated, err)
	}
}

func TestTooDearOrUnknown(t *testing.T) {
	for _, stored := range []string{
		"plain", "$", "$1$salt$hash", "$argon2i$v=19$m=4096,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=16$m=4096,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4294967295,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4096,t=1000000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4096,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4096,t=1,p=0$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4096,t=1,p=1$c2FsdHNhbHQ$", "$argon2id$v=19$m=4096$c2FsdHNhbHQ$aGFzaA",
		"$7$0$c2FsdA==$aGFzaGhhc2hoYXNoaGFzaA==", "$7$999999999$c2FsdA==$aGFzaGhhc2hoYXNoaGFzaA==", "$7$101$c2FsdA==$",
		"$7$101$!!$aGFzaGhhc2hoYXNoaGFzaA==", "$2y$31$c8nqaVZVu0bLPFtkYZ2hzelsZQvUPmK0zyOX7dsYfZNtzhZPvLO9S", "$2y$05$short",
		strings.Repeat("$7$", 1000),
	} {
		if err := Check(stored); !errors.Is(err, ErrFormat) {
			t.Errorf("%.60s: %v", stored, err)
		}
		if ok, _, err := Verify(t.Context(), stored, secret.New("x")); ok || err == nil {
			t.Errorf("%.60s: %v %v", stored, ok, err)
		}
	}
}

// However many sign in at one time, no more are computed than there are turns, and
// who does not get one in time is refused.
func TestTurns(t *testing.T) {
	var wg sync.WaitGroup
	for range 3 * cap(turns) {
		wg.Go(func() {
			if ok, _, err := Verify(t.Context(), "", secret.New("x")); ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
	wg.Wait()
	for range cap(turns) {
		turns <- struct{}{}
	}
	defer func() {
		for range cap(turns) {
			<-turns
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Hash(ctx, secret.New("x")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if ok, _, err := Verify(ctx, "", secret.New("x")); ok || !errors.Is(err, context.Canceled) {
		t.Error(ok, err)
	}
}

func TestStrong(t *testing.T) {
	for pw, good := range map[string]bool{
		"correct horse battery staple": true, "tjugo blåa äpplen": true, "xK9#mPq2vL": true, "j7Gq-pump-41-Rhine": true,
		"short": false, "": false, "password12": false, "Password123!": false, "P@ssw0rd2026": false, "1234567890": false,
		"qwertyuiop": false, "aaaaaaaaaaaa": false, "abababababab": false, "abcdefghijkl": false, "9876543210": false,
		"letmein12345": false, "welcome2keepmq": false, "adminadmin12": false, "iloveyou1234": false, "passwordpassword": false,
		"ann.smith 2026": false, "northplant-77x": false, "control\x07char-ok": false, "\xff\xfe invalid utf": false,
		strings.Repeat("x7#q", 100): false,
	} {
		err := Strong(secret.New(pw), "Ann Smith", "ann@northplant.example")
		if (err == nil) != good {
			t.Errorf("%q: %v", pw, err)
		}
		if err != nil && pw != "" && len(pw) > 5 && strings.Contains(err.Error(), pw) {
			t.Errorf("the refusal repeats the password: %v", err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	for _, s := range foreign {
		f.Add(s, "x")
	}
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "x")
	f.Add("$7$101$c2FsdA==$aGFzaGhhc2hoYXNoaGFzaA==", "")
	f.Fuzz(func(t *testing.T, stored, pw string) {
		h, err := parse(stored)
		if err != nil {
			if h.matches != nil {
				t.Fatal("an error and a hash")
			}
			return
		}
		if len(stored) > maxStored {
			t.Fatal("too long")
		}
		_ = Strong(secret.New(pw), stored)
	})
}
