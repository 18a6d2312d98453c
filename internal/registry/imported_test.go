package registry

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/password"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const moved = "correct horse"

// hashes of moved, each of another program.
func hashes(t *testing.T) map[string]secret.String {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(moved), bcrypt.MinCost)
	check(t, err)
	argon, err := password.Hash(t.Context(), secret.New(moved))
	check(t, err)
	return map[string]secret.String{
		"bcrypt": secret.New(string(b)), "argon": secret.New(argon),
		"mosquitto": secret.New("$7$101$FiJ9gNI7KuKnJj4f$FX/QoyY/COxcc8/jfBQBLEPA6XHZXBZ3f6D2UHCOTrx6FoXR22Ai+EVsDwZ56gkiaHAcuK/SuGyxx95qQl7GWA=="),
	}
}

func scramLogin(org auth.OrgID, name string) auth.Credentials {
	return auth.Credentials{ClientID: "c", HasUsername: true, Username: string(org) + "/" + name}
}

// stored returns what is stored of a user's secrets.
func (w *world) stored(t *testing.T, org auth.OrgID, name string) (hash, scram, imported []byte) {
	t.Helper()
	check(t, w.db.DB.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		const q = `SELECT token_hash, scram, imported FROM mqtt_user WHERE org = $1 AND name = $2`
		return tx.QueryRowContext(t.Context(), q, org, name).Scan(&hash, &scram, &imported)
	}))
	return hash, scram, imported
}

// A user keeps the password, gets a hash of ours at the first connect, and SCRAM
// from then on.
func TestImportedPassword(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	for name, hash := range hashes(t) {
		u, err := w.ImportUser(ctx, w.admin, User{Org: org, Name: name}, hash)
		if check(t, err); !u.Imported {
			t.Errorf("%s: %+v", name, u)
		}
		_, scram, imported := w.stored(t, org, name)
		if len(scram) != 0 || bytes.Contains(imported, []byte(hash.Reveal())) || len(imported) == 0 {
			t.Errorf("%s: stored SCRAM %d bytes, imported %q", name, len(scram), imported)
		}
		for _, wrong := range []string{"", "correct horsf", hash.Reveal()} {
			wantCode(t, second(w.Verify(ctx, userLogin(org, name, "c", secret.New(wrong)))), errs.Unauthenticated)
		}
		err = w.scram(t, scramLogin(org, name), string(org)+"/"+name, moved)
		wantCode(t, err, errs.Unauthenticated)
		if now, err := w.User(ctx, w.admin, org, name); err != nil || !now.Imported {
			t.Errorf("%s: %+v, %v", name, now, err)
		}
		g, err := w.Verify(ctx, userLogin(org, name, "c", secret.New(moved)))
		check(t, err)
		if now, err := w.User(ctx, w.admin, org, name); err != nil || now.Imported {
			t.Errorf("%s is still imported: %v", name, err)
		}
		token, _, imported := w.stored(t, org, name)
		if imported != nil || !checkToken(w.ring, u.Principal(), token, secret.New(moved)) {
			t.Errorf("%s: there is no hash of ours", name)
		}
		check(t, second(w.Verify(ctx, userLogin(org, name, "c", secret.New(moved)))))
		check(t, second(w.Renew(ctx, g.Ref())))
		err = w.scram(t, scramLogin(org, name), string(org)+"/"+name, moved)
		check(t, err)
		wantCode(t, second(w.Verify(ctx, userLogin(org, name, "c", secret.New("correct horsf")))), errs.Unauthenticated)
	}
	records := slices.DeleteFunc(w.records(t), func(s string) bool { return s != "user.upgrade" })
	if len(records) != 3 {
		t.Errorf("%d upgrades are on record", len(records))
	}
}

// A hash is in no file, log or record; nor is the password.
func TestImportedHashIsNowhere(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	all := hashes(t)
	check(t, second(w.ImportUser(ctx, w.admin, User{Org: org, Name: "used"}, all["mosquitto"])))
	check(t, second(w.ImportUser(ctx, w.admin, User{Org: org, Name: "unused"}, all["bcrypt"])))
	check(t, second(w.Verify(ctx, userLogin(org, "used", "c", secret.New(moved)))))
	wantCode(t, second(w.Verify(ctx, userLogin(org, "unused", "c", secret.New("x")))), errs.Unauthenticated)
	texts := []byte(w.log.String())
	check(t, filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		texts = append(texts, b...)
		return err
	}))
	if !bytes.Contains(texts, []byte("unused")) {
		t.Fatal("the files of the store were not read")
	}
	for name, s := range map[string]string{"password": moved, "mosquitto": all["mosquitto"].Reveal()[10:60], "bcrypt": all["bcrypt"].Reveal()} {
		if bytes.Contains(texts, []byte(s)) {
			t.Errorf("the %s is stored or logged", name)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, other := w.newOrg(t, ProfilePlain), w.newOrg(t, ProfilePlain)
	good := hashes(t)["mosquitto"]
	add := func(a Actor, org auth.OrgID, name string, hash secret.String) error {
		return second(w.ImportUser(ctx, a, User{Org: org, Name: name}, hash))
	}
	for what, hash := range map[string]string{"nothing": "", "clear": moved, "md5": "$1$salt$hash", "dear": "$7$99999999$c2FsdA==$aGFzaGhhc2hoYXNoaGFzaA=="} {
		err := add(w.admin, org, "ann", secret.New(hash))
		wantCode(t, err, errs.Invalid)
		if !strings.Contains(errs.Message(err), "password_hash must be") || hash != "" && strings.Contains(err.Error(), hash) {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantCode(t, add(w.newPerson(t, "stranger"), org, "ann", good), errs.NotFound)
	wantCode(t, add(w.join(t, org, w.newPerson(t, "reader").Principal.ID, permission.Reader), org, "ann", good), errs.Denied)
	wantCode(t, add(w.admin, org, "a/b", good), errs.Invalid)
	check(t, add(w.admin, org, "ann", good))
	wantCode(t, add(w.admin, org, "ann", good), errs.Conflict)

	// What is imported in one organisation is good in no other, nor for another name.
	_, _, err := w.CreateUser(ctx, w.admin, User{Org: other, Name: "ann"})
	check(t, err)
	_, _, err = w.CreateUser(ctx, w.admin, User{Org: org, Name: "bob"})
	check(t, err)
	for _, c := range []auth.Credentials{userLogin(other, "ann", "c", secret.New(moved)), userLogin(org, "bob", "c", secret.New(moved)), userLogin(org, "nobody", "c", secret.New(moved))} {
		wantCode(t, second(w.Verify(ctx, c)), errs.Unauthenticated)
	}
	check(t, w.SetUserDisabled(ctx, w.admin, org, "ann", true))
	wantCode(t, second(w.Verify(ctx, userLogin(org, "ann", "c", secret.New(moved)))), errs.Unauthenticated)
	if _, _, imported := w.stored(t, org, "ann"); imported == nil {
		t.Error("who is disabled was upgraded")
	}
	check(t, w.SetUserDisabled(ctx, w.admin, org, "ann", false))
	fresh, err := w.RotateToken(ctx, w.admin, auth.Principal{Org: org, Kind: auth.User, ID: "ann"}, Rotation{})
	check(t, err)
	wantCode(t, second(w.Verify(ctx, userLogin(org, "ann", "c", secret.New(moved)))), errs.Unauthenticated) // a new one takes its place
	check(t, second(w.Verify(ctx, userLogin(org, "ann", "c", fresh))))
}

// A check or an upgrade that cannot be made is a refusal, and leaves the hash.
func TestImportedCannotBeChecked(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	check(t, second(w.ImportUser(ctx, w.admin, User{Org: org, Name: "ann"}, hashes(t)["mosquitto"])))
	w.db.fail(errDisk)
	wantCode(t, second(w.Verify(ctx, userLogin(org, "ann", "c", secret.New(moved)))), errs.Unavailable)
	w.db.fail(nil)
	w.importing <- struct{}{} // somebody else's turn
	late, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.takeImported(late, claim{principal: auth.Principal{Org: org, Kind: auth.User, ID: "ann"}, token: secret.New(moved)}); !errors.Is(err, context.Canceled) {
		t.Errorf("waits for ever: %v", err)
	}
	<-w.importing
	check(t, w.db.DB.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE mqtt_user SET imported = $1`, []byte("rubbish"))
		return err
	}))
	wantCode(t, second(w.Verify(ctx, userLogin(org, "ann", "c", secret.New(moved)))), errs.Unavailable)
}

// Connections at the same time make one upgrade, and all are let in.
func TestImportedAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	check(t, second(w.ImportUser(ctx, w.admin, User{Org: org, Name: "ann"}, hashes(t)["mosquitto"])))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := w.Verify(ctx, userLogin(org, "ann", "c", secret.New(moved))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, r := range w.records(t) {
		if r == "user.upgrade" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d upgrades", n)
	}
}

// A password that can be written in several ways is one for SCRAM (SASLprep), and
// one that SCRAM cannot express goes on to work without it.
func TestImportedPasswordIsPrepared(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	for name, tc := range map[string]struct {
		password, prepared string
		scram              bool
	}{"roman": {"Ⅸ\u00adlives", "IXlives", true}, "bell": {"a\u0007b", "ab", false}} {
		hash, err := bcrypt.GenerateFromPassword([]byte(tc.password), bcrypt.MinCost)
		check(t, err)
		check(t, second(w.ImportUser(ctx, w.admin, User{Org: org, Name: name}, secret.New(string(hash)))))
		for range 2 {
			check(t, second(w.Verify(ctx, userLogin(org, name, "c", secret.New(tc.password)))))
		}
		if err := w.scram(t, scramLogin(org, name), string(org)+"/"+name, tc.prepared); (err == nil) != tc.scram {
			t.Errorf("%s: SCRAM: %v", name, err)
		}
	}
}
