package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
)

// credentialRoutes are the routes of what all tokens have in common.
func (s *server) credentialRoutes(a huma.API) {
	get(s, a, "/orgs/{org}/credentials", "list-credentials", "Report on tokens: age, end, last use; a page can be short and still have a next", s.listCredentials)
	update(s, a, "/orgs/{org}/devices/{type}/{id}/token", "update-device-token", "Set when a device's token ends", s.updateDeviceToken)
	remove(s, a, "/orgs/{org}/devices/{type}/{id}/token/before", "retire-device-token", "End a device's token from before the last rotation now", s.retireDeviceToken)
	update(s, a, "/orgs/{org}/apps/{key}/token", "update-app-token", "Set when an API key's token ends", s.updateAppToken)
	remove(s, a, "/orgs/{org}/apps/{key}/token/before", "retire-app-token", "End an API key's token from before the last rotation now", s.retireAppToken)
	update(s, a, "/orgs/{org}/users/{name}/password", "update-user-password", "Set when an MQTT user's password ends", s.updateUserPassword)
	remove(s, a, "/orgs/{org}/users/{name}/password/before", "retire-user-password", "End an MQTT user's password from before the last rotation now", s.retireUserPassword)
}

// Rotation is how a token is replaced.
type Rotation struct {
	Overlap int64      `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"For how long the old one stays good; 0 or absent: it ends at once, and connections made with it."`
	Expires *time.Time `json:"expires,omitempty" doc:"When the new one ends. Absent: it lives for as long as the old one was to."`
	Forever bool       `json:"forever,omitempty" doc:"The new one has no end, whatever the old one had."`
}

func (x *Rotation) of() registry.Rotation {
	if x == nil {
		return registry.Rotation{}
	}
	made := registry.Rotation{Overlap: time.Duration(x.Overlap) * time.Second, Forever: x.Forever}
	if x.Expires != nil {
		made.Expires = *x.Expires
	}
	return made
}

// TokenEnd is when a token ends.
type TokenEnd struct {
	Expires *time.Time `json:"expires" doc:"When it ends, and connections made with it; null: never."`
}

func (x TokenEnd) time() time.Time {
	if x.Expires == nil {
		return time.Time{}
	}
	return *x.Expires
}

func (in InDevice) who() auth.Principal {
	return auth.Principal{Org: in.org(), Kind: auth.Device, ID: in.Type + ":" + in.ID}
}

func (in InApp) who() auth.Principal {
	return auth.Principal{Org: in.org(), Kind: auth.Application, ID: in.Key}
}

func (in InUser) who() auth.Principal {
	return auth.Principal{Org: in.org(), Kind: auth.User, ID: in.Name}
}

func (s *server) setTokenEnd(ctx context.Context, actor registry.Actor, who auth.Principal, end TokenEnd) (*body[TokenEnd], error) {
	if err := s.registry.SetTokenExpiry(ctx, actor, who, end.time()); err != nil {
		return nil, err
	}
	return &body[TokenEnd]{Body: end}, nil
}

func (s *server) updateDeviceToken(ctx context.Context, actor registry.Actor, in *struct {
	InDevice
	Body TokenEnd
}) (*body[TokenEnd], error) {
	return s.setTokenEnd(ctx, actor, in.who(), in.Body)
}

func (s *server) updateAppToken(ctx context.Context, actor registry.Actor, in *struct {
	InApp
	Body TokenEnd
}) (*body[TokenEnd], error) {
	return s.setTokenEnd(ctx, actor, in.who(), in.Body)
}

func (s *server) updateUserPassword(ctx context.Context, actor registry.Actor, in *struct {
	InUser
	Body TokenEnd
}) (*body[TokenEnd], error) {
	return s.setTokenEnd(ctx, actor, in.who(), in.Body)
}

func (s *server) retireDeviceToken(ctx context.Context, actor registry.Actor, in *InDevice) error {
	return s.registry.RetireToken(ctx, actor, in.who())
}

func (s *server) retireAppToken(ctx context.Context, actor registry.Actor, in *InApp) error {
	return s.registry.RetireToken(ctx, actor, in.who())
}

func (s *server) retireUserPassword(ctx context.Context, actor registry.Actor, in *InUser) error {
	return s.registry.RetireToken(ctx, actor, in.who())
}

// TokenUse is when a token was last used.
type TokenUse struct {
	At      time.Time `json:"at"`
	Address string    `json:"address,omitempty"`
}

func tokenUse(u registry.Used) *TokenUse {
	if u.At.IsZero() {
		return nil
	}
	return &TokenUse{At: utc(u.At), Address: u.Address}
}

// Credential is what may be known of somebody's tokens.
type Credential struct {
	Kind       string     `json:"kind" enum:"device,gateway,application,user"`
	Holder     string     `json:"holder" doc:"Of a device or gateway as type:id, else the API key or the name of the user."`
	Name       string     `json:"name,omitempty" doc:"Of an API key, for people."`
	Disabled   bool       `json:"disabled"`
	Version    int        `json:"version" doc:"Counts the tokens it was given."`
	Made       time.Time  `json:"made" doc:"When the present token was made."`
	AgeSeconds int64      `json:"age_seconds"`
	Expires    *time.Time `json:"expires,omitempty" doc:"When the present token ends; absent: never."`
	LastUse    *TokenUse  `json:"last_use,omitempty" doc:"Of the present token; absent: never."`
	Before     *time.Time `json:"before_until,omitempty" doc:"Until when the token before is good, too; absent: there is none."`
	LastBefore *TokenUse  `json:"before_last_use,omitempty" doc:"Of the token before."`
	LastOther  *TokenUse  `json:"other_last_use,omitempty" doc:"With a certificate or an access token instead."`
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}

func credential(c registry.Credential) Credential {
	return Credential{Kind: c.Holder.Kind.String(), Holder: c.Holder.ID, Name: c.Name, Disabled: c.Disabled, Version: c.Version,
		Made: utc(c.Made), AgeSeconds: max(0, int64(time.Since(c.Made)/time.Second)), Expires: optional(c.Expires), LastUse: tokenUse(c.Last),
		Before: optional(c.Before), LastBefore: tokenUse(c.LastBefore), LastOther: tokenUse(c.LastWithout)}
}

func (s *server) listCredentials(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
	Kind   string `query:"kind" enum:"device,gateway,application,user" doc:"Only of this kind; device: gateways, too."`
	Older  int64  `query:"older_than_seconds" minimum:"0" maximum:"3155760000" doc:"Only tokens that were made so long ago, or longer."`
	Unused int64  `query:"unused_seconds" minimum:"0" maximum:"3155760000" doc:"Only those that were not used for so long."`
	Ending int64  `query:"expires_within_seconds" minimum:"0" maximum:"3155760000" doc:"Only those that end within so long, or have ended."`
	Never  bool   `query:"never_used" doc:"Only those that were never used."`
	Two    bool   `query:"two" doc:"Only where the token before is good, too."`
}) (*body[list[Credential]], error) {
	f := registry.CredentialFilter{OlderThan: time.Duration(in.Older) * time.Second, Unused: time.Duration(in.Unused) * time.Second,
		Ending: time.Duration(in.Ending) * time.Second, Never: in.Never, Two: in.Two}
	if in.Kind != "" {
		who, err := registry.ParseWho(in.Kind + ":x")
		if err != nil {
			return nil, errs.E(errs.Invalid, "kind: there is none called %q", in.Kind)
		}
		f.Kind = who.Kind
	}
	all, next, err := s.registry.Credentials(ctx, actor, in.org(), f, in.page())
	if err != nil {
		return nil, err
	}
	return newList(all, next, credential), nil
}
