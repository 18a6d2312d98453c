package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

// Lock denies something every new connection and request, and has ended those
// that there were.
type Lock struct {
	ID      string     `json:"id"`
	Kind    string     `json:"kind" enum:"principal,type,address,authority,client"`
	Target  string     `json:"target"`
	Reason  string     `json:"reason"`
	Maker   string     `json:"maker" doc:"Who locked, as kind:org:id."`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty" doc:"Absent: never."`
}

func lock(l registry.Lock) Lock {
	x := Lock{ID: l.ID, Kind: l.Kind, Target: l.Target, Reason: l.Reason, Maker: l.Maker, Created: utc(l.Created)}
	if !l.Expires.IsZero() {
		end := utc(l.Expires)
		x.Expires = &end
	}
	return x
}

// NewLock is what a lock is made of.
type NewLock struct {
	Kind    string     `json:"kind" enum:"principal,type,address,authority,client" doc:"What the target is."`
	Target  string     `json:"target" minLength:"1" maxLength:"300" doc:"principal: device:TYPE:ID, gateway:TYPE:ID, application:KEY, user:NAME or person:ID. type: a device type. address: an IP address or a range (CIDR). authority: the authority key identifier of a certificate authority. client: an MQTT client identifier."`
	Reason  string     `json:"reason" minLength:"1" maxLength:"200" doc:"Told to who is locked out, once they have proved who they are."`
	Expires *time.Time `json:"expires,omitempty" doc:"Absent: never."`
}

func (n NewLock) of(org auth.OrgID) registry.Lock {
	l := registry.Lock{Org: org, Kind: n.Kind, Target: n.Target, Reason: n.Reason}
	if n.Expires != nil {
		l.Expires = *n.Expires
	}
	return l
}

// InLock names a lock of the installation.
type InLock struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

func (s *server) locksOf(ctx context.Context, actor registry.Actor, org auth.OrgID) (*body[list[Lock]], error) {
	all, err := s.registry.Locks(ctx, actor, org)
	if err != nil {
		return nil, err
	}
	return newList(all, "", lock), nil
}

func (s *server) lockOut(ctx context.Context, actor registry.Actor, l registry.Lock) (*body[Lock], error) {
	l, err := s.registry.CreateLock(ctx, actor, l)
	if err != nil {
		return nil, err
	}
	return &body[Lock]{Body: lock(l)}, nil
}

func (s *server) listLocks(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Lock]], error) {
	return s.locksOf(ctx, actor, in.org())
}

func (s *server) createLock(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewLock
}) (*body[Lock], error) {
	return s.lockOut(ctx, actor, in.Body.of(in.org()))
}

func (s *server) deleteLock(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InLock
}) error {
	return s.registry.DeleteLock(ctx, actor, in.org(), in.ID)
}

func (s *server) listAllLocks(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[list[Lock]], error) {
	return s.locksOf(ctx, actor, "")
}

func (s *server) createLockOfAll(ctx context.Context, actor registry.Actor, in *struct{ Body NewLock }) (*body[Lock], error) {
	return s.lockOut(ctx, actor, in.Body.of(""))
}

func (s *server) deleteLockOfAll(ctx context.Context, actor registry.Actor, in *InLock) error {
	return s.registry.DeleteLock(ctx, actor, "", in.ID)
}
