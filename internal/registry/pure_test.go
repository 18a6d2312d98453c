package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// keyed is a macer with a fixed key.
type keyed string

func (k keyed) MAC(purpose string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, []byte(string(k)+purpose))
	for _, p := range parts {
		m.Write([]byte{byte(len(p))})
		m.Write(p)
	}
	return m.Sum(nil)
}

func TestTokensAreRandomAndLong(t *testing.T) {
	seen := map[string]bool{}
	var count [256]int
	for range 2000 {
		s := newToken().Reveal()
		if len(s) != tokenLength || seen[s] {
			t.Fatalf("token %q is short or was there before", s)
		}
		seen[s] = true
		for _, c := range []byte(s) {
			count[c]++
		}
	}
	for _, c := range []byte(letters) { // 64000 letters, 1032 expected of each
		if count[c] < 800 || count[c] > 1270 {
			t.Errorf("letter %c came %d times in 64000", c, count[c])
		}
	}
}

func TestCheckToken(t *testing.T) {
	owner := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	other := auth.Principal{Org: "abc124", Kind: auth.Device, ID: "t:d"}
	token := newToken()
	stored := hashToken(keyed("k"), owner, token)
	if !checkToken(keyed("k"), owner, stored, token) {
		t.Fatal("the token is refused")
	}
	if string(stored) == string(hashToken(keyed("k"), owner, token)) {
		t.Error("two hashes of a token are the same: no salt")
	}
	flipped := append([]byte(nil), stored...)
	flipped[len(flipped)-1] ^= 1
	format := append([]byte(nil), stored...)
	format[0] = 2
	for name, ok := range map[string]bool{
		"wrong token":  checkToken(keyed("k"), owner, stored, newToken()),
		"empty token":  checkToken(keyed("k"), owner, stored, secret.New("")),
		"no token":     checkToken(keyed("k"), owner, stored, secret.String{}),
		"wrong owner":  checkToken(keyed("k"), other, stored, token),
		"wrong key":    checkToken(keyed("l"), owner, stored, token),
		"nothing":      checkToken(keyed("k"), owner, nil, token),
		"truncated":    checkToken(keyed("k"), owner, stored[:len(stored)-1], token),
		"one bit":      checkToken(keyed("k"), owner, flipped, token),
		"other format": checkToken(keyed("k"), owner, format, token),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzCheckToken(f *testing.F) {
	owner := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	token := secret.New("token")
	f.Add([]byte{}, "token")
	f.Add(make([]byte, storedLength), "")
	f.Add(hashToken(keyed("k"), owner, token), "token2")
	f.Fuzz(func(t *testing.T, stored []byte, s string) {
		if checkToken(keyed("other key"), owner, stored, secret.New(s)) {
			t.Fatal("accepted without the key")
		}
	})
}

func TestCursor(t *testing.T) {
	p := Page{After: cursor("device", "t", "d")}
	key, err := p.after("device", 2)
	if err != nil || key[0] != "t" || key[1] != "d" {
		t.Fatal(key, err)
	}
	if key, err := (Page{}).after("device", 2); err != nil || len(key) != 2 || key[0] != "" {
		t.Fatal(key, err)
	}
	for name, after := range map[string]string{
		"another list": cursor("type", "t", "d"), "too short": cursor("device", "t"), "not base64": "?",
		"not json": "AAAA", "too long": cursor("device", strings.Repeat("x", maxCursor), "d"),
	} {
		if _, err := (Page{After: after}).after("device", 2); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, limit := range []int{-1, 1001} {
		if _, err := (Page{Limit: limit}).size(); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(cursor("device", "t", "d"))
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := (Page{After: s}).after("device", 2); err == nil && len(key) != 2 {
			t.Fatalf("cursor %q gives %q", s, key)
		}
	})
}

func FuzzStoredRules(f *testing.F) {
	f.Add(`[{"Action":"publish","Filter":"#","Deny":false}]`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, s string) {
		rules, err := storedRules(s)
		if err == nil && len(rules) > maxRules {
			t.Fatal("too many rules")
		}
	})
}

func TestMistakesAreAllNamed(t *testing.T) {
	err := DeviceType{ID: "no blanks", Class: "Toaster", Description: "a\x1bb"}.check()
	wantCode(t, err, errs.Invalid)
	for _, part := range []string{"device type", "class", "description"} {
		if !strings.Contains(errs.Message(err), part) {
			t.Errorf("%q does not name %s", errs.Message(err), part)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "ü", strings.Repeat("x", 65)} {
		if checkUserName(name) == nil {
			t.Errorf("user name %q is accepted", name)
		}
	}
	check(t, checkUserName("Ann.Lee_1@example-2"))
	for _, text := range []string{"a\nb", "\xff", strings.Repeat("ü", 101)} {
		if checkText("name", text, 100) == nil {
			t.Errorf("text %q is accepted", text)
		}
	}
	check(t, checkText("name", strings.Repeat("ü", 100), 100))
}

func TestBudget(t *testing.T) {
	var b budget
	now := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	for i := range budgetSize {
		if ok, _ := b.take(now); !ok {
			t.Fatalf("refusal %d is not recorded", i)
		}
	}
	for range 5 {
		if ok, _ := b.take(now); ok {
			t.Fatal("over the budget")
		}
	}
	if ok, missed := b.take(now.Add(time.Minute)); !ok || missed != 5 {
		t.Fatal(ok, missed)
	}
}

func TestCacheForgets(t *testing.T) {
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	q := auth.Principal{Org: "abc124", Kind: auth.Device, ID: "t:d"}
	var c cache
	_, g := c.get(p)
	c.forget(q)
	c.put(&account{principal: p}, g)
	if a, _ := c.get(p); a != nil {
		t.Error("kept what may be older than a change")
	}
	_, g = c.get(p)
	c.put(&account{principal: p}, g)
	if a, _ := c.get(p); a == nil {
		t.Error("kept nothing")
	}
	c.forget(auth.Principal{Org: "abc123"})
	if a, _ := c.get(p); a != nil {
		t.Error("kept an account of a changed organisation")
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	for i := range cacheSize + 100 {
		c.put(&account{principal: auth.Principal{ID: string(rune(i))}}, 0)
	}
	if len(c.accounts) > cacheSize {
		t.Error(len(c.accounts))
	}
}
