package registry

import (
	"context"
	"crypto/x509"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/quota"
)

func TestVerifierContract(t *testing.T) {
	authtest.Run(t, func(t *testing.T) authtest.World {
		w := newWorld(t)
		orgs := []auth.OrgID{w.newOrg(t, ProfileIoT2), w.newOrg(t, ProfileIoT2)}
		for _, org := range orgs {
			w.newType(t, org, "type", ClassDevice)
			w.newType(t, org, "gateways", ClassGateway)
		}
		return authtest.World{
			Verifier: w,
			Kinds:    []auth.Kind{auth.Device, auth.Gateway, auth.Application},
			Add: func(ctx context.Context, kind auth.Kind, org int, name string) (authtest.Client, error) {
				if kind == auth.Application {
					return w.contractApplication(ctx, orgs[org], name)
				}
				return w.contractDevice(ctx, kind, orgs[org], name)
			},
			DisableOrg: func(ctx context.Context, org int) error { return w.SetOrgDisabled(ctx, w.admin, orgs[org], true) },
			DeleteOrg:  func(ctx context.Context, org int) error { return w.DeleteOrg(ctx, w.admin, orgs[org]) },
			SetLimits: func(ctx context.Context, org int, typ string, l quota.Limits) error {
				return w.replaceLimits(ctx, orgs[org], typ, l)
			},
			Break: func() func() {
				w.db.fail(errDisk)
				w.changes.tellEveryone()
				return func() { w.db.fail(nil) }
			},
		}
	})
}

func (w *world) contractApplication(ctx context.Context, org auth.OrgID, name string) (authtest.Client, error) {
	p, token, err := w.CreateApplication(ctx, w.admin, Application{Org: org, Name: name})
	c := authtest.Client{
		Principal:   p.Principal(),
		Credentials: login("a:"+string(org)+":"+name, p.Key, token),
		Disable:     func(ctx context.Context) error { return w.SetApplicationDisabled(ctx, w.admin, org, p.Key, true) },
		Rotate: func(ctx context.Context) error {
			_, err := w.RotateToken(ctx, w.admin, auth.Principal{Org: org, Kind: auth.Application, ID: p.Key}, Rotation{})
			return err
		},
		Delete: func(ctx context.Context) error { return w.DeleteApplication(ctx, w.admin, org, p.Key) },
	}
	return c, err
}

func (w *world) contractDevice(ctx context.Context, kind auth.Kind, org auth.OrgID, name string) (authtest.Client, error) {
	typ, letter := "type", "d:"
	if kind == auth.Gateway {
		typ, letter = "gateways", "g:"
	}
	d, token, err := w.CreateDevice(ctx, w.admin, Device{Org: org, Type: typ, ID: name})
	c := authtest.Client{
		Principal:   d.Principal(),
		Credentials: login(letter+string(org)+":"+typ+":"+name, userDeviceToken, token),
		Certificate: func(ctx context.Context) (*x509.Certificate, error) {
			token, err := w.CreateEnrolment(ctx, w.admin, org, typ, name, 0)
			if err != nil {
				return nil, err
			}
			csr, err := makeCSR()
			if err != nil {
				return nil, err
			}
			chain, err := w.Enrol(ctx, token, csr, "")
			if err != nil {
				return nil, err
			}
			return chain[0], nil
		},
		Disable: func(ctx context.Context) error { return w.SetDeviceDisabled(ctx, w.admin, org, typ, name, true) },
		Rotate: func(ctx context.Context) error {
			_, err := w.RotateToken(ctx, w.admin, auth.Principal{Org: org, Kind: auth.Device, ID: typ + ":" + name}, Rotation{})
			return err
		},
		Delete: func(ctx context.Context) error { return w.DeleteDevice(ctx, w.admin, org, typ, name) },
	}
	return c, err
}

// replaceLimits sets what l sets, and unsets the rest.
func (w *world) replaceLimits(ctx context.Context, org auth.OrgID, typ string, l quota.Limits) error {
	change := map[string]any{}
	for _, k := range quota.All() {
		if typ == "" || !k.OfOrg() {
			change[k.String()] = l.Value(k)
		}
	}
	if typ == "" {
		_, err := w.SetOrgLimits(ctx, w.admin, org, change)
		return err
	}
	_, err := w.SetTypeLimits(ctx, w.admin, org, typ, change)
	return err
}
