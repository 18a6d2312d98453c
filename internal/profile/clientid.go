package profile

import (
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// A ClientID is what a client identifier of the iot-2 profile says. It is a
// claim: only a Verifier can tell whether it is true.
type ClientID struct {
	Kind     auth.Kind // Device, Gateway or Application
	Org      auth.OrgID
	Type, ID string // of a device or gateway
	App      string // of an application
	Instance string // of one instance of a scalable application; "" if it names none
	Scalable bool   // an application that shares its load among connections
}

// ParseClientID checks s and returns what it says. The forms are "d:org:type:id",
// "g:org:type:id", "a:org:app", "A:org:app" and "A:org:app:instance".
func ParseClientID(s string) (ClientID, error) {
	kind, rest, _ := strings.Cut(s, ":")
	org, rest, ok := strings.Cut(rest, ":")
	if !ok {
		return ClientID{}, badClientID()
	}
	first, second, two := strings.Cut(rest, ":")
	c := ClientID{}
	switch {
	case kind == "d" && two:
		c = ClientID{Kind: auth.Device, Type: first, ID: second}
	case kind == "g" && two:
		c = ClientID{Kind: auth.Gateway, Type: first, ID: second}
	case kind == "a" && !two:
		c = ClientID{Kind: auth.Application, App: first}
	case kind == "A":
		c = ClientID{Kind: auth.Application, App: first, Instance: second, Scalable: true}
	default:
		return ClientID{}, badClientID()
	}
	var err error
	if c.Org, err = auth.ParseOrgID(org); err != nil {
		return ClientID{}, err
	}
	if c.Kind == auth.Application {
		err = auth.CheckName("application id", first)
		if err == nil && two {
			err = auth.CheckName("instance id", second)
		}
	} else {
		err = checkDevice(first, second)
	}
	if err != nil {
		return ClientID{}, err
	}
	return c, nil
}

// checkDevice checks the type and the id of a device or gateway.
func checkDevice(typ, id string) error {
	if err := auth.CheckName("device type", typ); err != nil {
		return err
	}
	return auth.CheckName("device id", id)
}

func badClientID() error {
	return errs.E(errs.Invalid, "client id must be d:org:type:id, g:org:type:id, a:org:app, A:org:app or A:org:app:instance")
}

// String returns the client identifier that says c.
func (c ClientID) String() string {
	switch {
	case c.Kind == auth.Device:
		return "d:" + string(c.Org) + ":" + c.Type + ":" + c.ID
	case c.Kind == auth.Gateway:
		return "g:" + string(c.Org) + ":" + c.Type + ":" + c.ID
	case !c.Scalable:
		return "a:" + string(c.Org) + ":" + c.App
	case c.Instance == "":
		return "A:" + string(c.Org) + ":" + c.App
	default:
		return "A:" + string(c.Org) + ":" + c.App + ":" + c.Instance
	}
}
