package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// No secret that was ever handed out is in any file or in the log.
func TestSecretsAreNowhere(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	secrets := map[string]secret.String{
		"device": s.device, "gateway": s.gateway, "user": s.user, "application": s.applicationToken, "session": s.session,
		"enrolment": s.newEnrolment(t, s.iot, "t", "d"),
	}
	var err error
	add := func(name string, v secret.String, e error) { check(t, e); secrets[name] = v }
	v, err := s.RotateToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}, Rotation{})
	add("rotated device", v, err)
	v, err = s.RotateToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Application, ID: s.application.Key}, Rotation{})
	add("rotated application", v, err)
	v, err = s.RotateToken(ctx, s.admin, auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}, Rotation{})
	add("rotated user", v, err)
	v, err = s.NewSignInCode(ctx, systemActor("test"))
	add("code", v, err)
	v, err = s.NewAccessCode(ctx, systemActor("test"))
	add("access code", v, err)
	for name, v := range secrets { // used and misused, so that refusals are logged
		_, _, _ = s.SignIn(ctx, v, "192.0.2.1", "x")
		_, _ = s.Verify(ctx, deviceLogin(s.iot, "t:d", v))
		_, _ = s.Session(ctx, v, "")
		_, _ = s.ApplicationActor(ctx, s.application.Key, v, "")
		if len(v.Reveal()) < 27 { // 160 bits of 62 letters
			t.Errorf("%s has %d letters", name, len(v.Reveal()))
		}
	}
	if s.log.String() == "" {
		t.Error("refusals are not logged")
	}
	texts := map[string][]byte{"the log": []byte(s.log.String())}
	check(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		texts[path] = b
		return err
	}))
	texts["the rows"] = dbtest.Dump(t, s.file)
	if len(texts) < 3 || !bytes.Contains(join(texts), []byte(s.application.Key)) {
		t.Fatal("the files of the store were not read")
	}
	for where, text := range texts {
		for name, v := range secrets {
			if bytes.Contains(text, []byte(v.Reveal())) {
				t.Errorf("the %s secret is in %s", name, where)
			}
		}
	}
}

func join(texts map[string][]byte) []byte {
	var all []byte
	for _, b := range texts {
		all = append(all, b...)
	}
	return all
}
