package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"html/template"
	"image/png"
	"net/http"

	"github.com/pquerna/otp"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// An accountPage is what people see and change of themselves.
type accountPage struct {
	Me        registry.Person
	Session   string // the present one
	Verified  bool
	HasFactor bool
	Factors   []registry.Factor
	Recovery  int
	Sessions  []registry.Session

	Wrong string   // why something was not done
	Done  string   // what was
	Codes []string // new recovery codes
	New   *newFactor
}

// A newFactor is an authenticator that waits for its first code.
type newFactor struct {
	ID, Key string
	QR      template.URL // of an image with the key
}

func (s *server) account(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	return s.showAccount(w, r, actor, accountPage{})
}

// showAccount completes p and shows it.
func (s *server) showAccount(w http.ResponseWriter, r *http.Request, actor registry.Actor, p accountPage) (err error) {
	ctx := r.Context()
	if p.Me, err = s.registry.Person(ctx, actor, actor.Principal.ID); err != nil {
		return err
	}
	if p.Factors, p.Recovery, err = s.registry.Factors(ctx, actor); err != nil {
		return err
	}
	for _, f := range p.Factors {
		p.HasFactor = p.HasFactor || f.Confirmed
	}
	if p.Sessions, err = s.registry.Sessions(ctx, actor); err != nil {
		return err
	}
	p.Session, p.Verified = actor.Session, actor.Verified
	status := http.StatusOK
	if p.Wrong != "" {
		status = http.StatusUnprocessableEntity
	}
	s.render(w, r, status, "account.html", p)
	return nil
}

// changeAccount makes one change and shows what came of it.
func (s *server) changeAccount(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	change, ok := map[string]func(context.Context, *http.Request, registry.Actor, *accountPage) error{
		"me": s.changeMe, "password": s.changePassword, "factor": s.addFactor, "confirm": s.confirmFactor, "remove": s.removeFactor,
		"recovery": s.renewRecovery, "verify": s.verify, "end": s.endSession, "others": s.endOthers,
	}[r.PathValue("what")]
	if !ok {
		return s.notFound(w, r)
	}
	var p accountPage
	if err := change(r.Context(), r, actor, &p); err != nil {
		switch errs.CodeOf(err) {
		case errs.Invalid, errs.Denied, errs.NotFound, errs.Conflict, errs.Exhausted:
			p = accountPage{Wrong: errs.Message(err)}
		default:
			return err
		}
	} else if token, err := token(r); err == nil { // what is known of the session may have changed
		if now, err := s.registry.Session(r.Context(), token, address(r)); err == nil {
			actor = now
		}
	}
	return s.showAccount(w, r, actor, p)
}

func (s *server) changeMe(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	name, email := r.PostFormValue("name"), r.PostFormValue("email")
	p.Done = "Saved"
	_, err := s.registry.SetMe(ctx, actor, registry.PersonChange{Name: &name, Email: &email})
	return err
}

func (s *server) changePassword(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	p.Done = "The password is set, and your other sessions have ended"
	return s.registry.SetPassword(ctx, actor, secret.New(r.PostFormValue("present")), secret.New(r.PostFormValue("password")))
}

func (s *server) addFactor(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	f, url, err := s.registry.AddFactor(ctx, actor, r.PostFormValue("name"))
	if err != nil {
		return err
	}
	key, err := otp.NewKeyFromURL(url.Reveal())
	if err != nil {
		return fmt.Errorf("read otpauth URL: %w", err)
	}
	img, err := key.Image(440, 440)
	if err != nil {
		return fmt.Errorf("draw QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return fmt.Errorf("encode QR code: %w", err)
	}
	p.New = &newFactor{ID: f.ID, Key: key.Secret(), QR: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))}
	return nil
}

func (s *server) confirmFactor(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	codes, err := s.registry.ConfirmFactor(ctx, actor, r.PostFormValue("id"), secret.New(r.PostFormValue("code")))
	p.showCodes(codes)
	p.Done = "The authenticator counts from now on"
	return err
}

func (p *accountPage) showCodes(codes []secret.String) {
	for _, c := range codes {
		p.Codes = append(p.Codes, c.Reveal())
	}
}

func (s *server) removeFactor(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	p.Done = "It is removed"
	return s.registry.DeleteFactor(ctx, actor, r.PostFormValue("id"))
}

func (s *server) renewRecovery(ctx context.Context, _ *http.Request, actor registry.Actor, p *accountPage) error {
	codes, err := s.registry.RenewRecoveries(ctx, actor)
	p.showCodes(codes)
	p.Done = "The codes from before are void"
	return err
}

func (s *server) verify(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	p.Done = "This session is proved"
	return s.registry.VerifySession(ctx, actor, secret.New(r.PostFormValue("code")))
}

func (s *server) endSession(ctx context.Context, r *http.Request, actor registry.Actor, p *accountPage) error {
	p.Done = "The session has ended"
	return s.registry.RevokeSession(ctx, actor, r.PostFormValue("id"))
}

func (s *server) endOthers(ctx context.Context, _ *http.Request, actor registry.Actor, p *accountPage) error {
	p.Done = "All other sessions have ended"
	return s.registry.EndOtherSessions(ctx, actor)
}
