package profile

import (
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// managed are the topics on which a device speaks to device management, after
// "iotdevice-1/" and, in the organisation, "type/{type}/id/{id}/".
var managed = [...]string{
	"mgmt/manage", "mgmt/unmanage", "device/update/location", "add/diag/errorCodes", "clear/diag/errorCodes",
	"add/diag/log", "clear/diag/log", "notify", "response",
}

// iot2 gives spec the rights of id in an iot-2 organisation. Retained messages
// are the platform's own there.
func iot2(spec *auth.Spec, id Identity) error {
	var b builder
	var err error
	switch id.Ref.Principal.Kind {
	case auth.Device:
		err = device(spec, &b)
	case auth.Gateway:
		err = gateway(spec, &b, id.Attached)
		if id.Register {
			spec.Registrable = registrable(&b)
		}
	case auth.Application, auth.Person:
		if err = application(&b, id); err == nil {
			err = scale(spec)
		}
	case auth.System:
		err = application(&b, id)
	default:
		err = errs.E(errs.Denied, "a %v cannot use the topics of an iot-2 organisation", id.Ref.Principal.Kind)
	}
	if err == nil {
		err = b.err
	}
	spec.Rules = b.rules
	return err
}

// device lets a device send events and receive commands. It names them without
// its type and id, which are put in, so that it cannot name another's.
func device(spec *auth.Spec, b *builder) error {
	typ, id := spec.Principal.TypeAndID()
	if err := checkDevice(typ, id); err != nil {
		return err
	}
	own := part(typ, id)
	for _, root := range []string{"iot-2/", "iotdevice-1/", "iotdm-1/"} {
		spec.Rewrites = append(spec.Rewrites, auth.Rewrite{Client: root, Org: root + own})
	}
	b.send(own)
	b.allow("iot-2/"+own+"cmd/+/fmt/+", auth.Subscribe, auth.Receive)
	b.allow("iotdm-1/"+own+"#", auth.Subscribe, auth.Receive)
	return nil
}

// gateway lets a gateway act for itself and for the devices attached to it. It
// may subscribe for all, and receives what is theirs.
func gateway(spec *auth.Spec, b *builder, attached []string) error {
	b.allow("iot-2/type/+/id/+/cmd/+/fmt/+", auth.Subscribe)
	b.allow("iot-2/type/+/id/+/mon", auth.Subscribe)
	b.allow("iotdm-1/#", auth.Subscribe)
	for i := -1; i < len(attached); i++ {
		which := spec.Principal.ID
		if i >= 0 {
			which = attached[i]
		}
		typ, id, _ := strings.Cut(which, ":")
		if err := checkDevice(typ, id); err != nil {
			return err
		}
		own := part(typ, id)
		b.send(own)
		b.allow("iot-2/"+own+"cmd/+/fmt/+", auth.Receive)
		b.allow("iot-2/"+own+"mon", auth.Receive)
		b.allow("iotdm-1/"+own+"#", auth.Receive)
		if i < 0 {
			b.allow("iot-2/"+own+"notify", auth.Subscribe, auth.Receive)
		}
	}
	return nil
}

// registrable is what a gateway does when it begins to speak for a device.
func registrable(b *builder) []auth.Rule {
	all := builder{}
	all.send(part("+", "+"))
	all.allow("iot-2/"+part("+", "+")+"cmd/+/fmt/+", auth.Subscribe)
	if b.err == nil {
		b.err = all.err
	}
	return all.rules
}

// DeviceIn returns the type and id of the device in a topic or filter of an
// iot-2 organisation; a wildcard is none.
func DeviceIn(s string) (typ, id string, ok bool) {
	l := strings.SplitN(s, "/", 6)
	if len(l) < 6 || l[1] != "type" || l[3] != "id" || checkDevice(l[2], l[4]) != nil {
		return "", "", false
	}
	return l[2], l[4], true
}

// part returns the levels that stand for a device in the topics of its organisation.
func part(typ, id string) string { return "type/" + typ + "/id/" + id + "/" }

// send allows the topics on which a device, or a gateway for it, speaks.
func (b *builder) send(own string) {
	b.allow("iot-2/"+own+"evt/+/fmt/+", auth.Publish)
	for _, t := range managed {
		b.allow("iotdevice-1/"+own+t, auth.Publish)
	}
}

// application lets an application, or a person, send and receive events and
// commands of the devices that its rights are for, and receive what the platform
// says about devices and applications. It may subscribe for all devices, and
// receives what is of its own.
func application(b *builder, id Identity) error {
	for _, x := range id.parts() {
		if err := onePart(b, x); err != nil {
			return err
		}
	}
	return nil
}

// onePart is application for rights from one side.
func onePart(b *builder, x Part) error {
	r := x.Rights
	which := []string{part("+", "+")}
	if r.Limited {
		which = which[:0]
		for _, d := range x.Devices {
			typ, dev, _ := strings.Cut(d, ":")
			if err := checkDevice(typ, dev); err != nil {
				return err
			}
			which = append(which, part(typ, dev))
		}
	}
	for _, x := range []struct {
		publish, receive permission.Permission
		levels           string
	}{
		{permission.EventPublish, permission.EventReceive, "evt/+/fmt/+"},
		{permission.CommandPublish, permission.CommandReceive, "cmd/+/fmt/+"},
	} {
		if r.Set.Has(x.receive) {
			b.allow("iot-2/"+part("+", "+")+x.levels, auth.Subscribe)
		}
		for _, own := range which {
			if r.Set.Has(x.publish) {
				b.allow("iot-2/"+own+x.levels, auth.Publish)
			}
			if r.Set.Has(x.receive) {
				b.allow("iot-2/"+own+x.levels, auth.Receive)
			}
		}
	}
	monitor(b, r, which)
	return nil
}

// monitor lets an application receive what the platform says.
func monitor(b *builder, r permission.Rights, which []string) {
	if r.Set.Has(permission.MonitorReceive) {
		b.allow("iot-2/"+part("+", "+")+"mon", auth.Subscribe)
		for _, own := range which {
			b.allow("iot-2/"+own+"mon", auth.Receive)
		}
		if !r.Limited {
			b.allow("iot-2/app/+/mon", auth.Subscribe, auth.Receive)
		}
	}
	if !r.Set.Has(permission.EventReceive) {
		return
	}
	for _, levels := range [...]string{"intf/+/evt/state", "err/data"} {
		b.allow("iot-2/"+part("+", "+")+levels, auth.Subscribe)
		for _, own := range which {
			b.allow("iot-2/"+own+levels, auth.Receive)
		}
	}
	if r.Limited {
		return
	}
	for _, f := range [...]string{
		"iot-2/intf/+/rule/+/evt/trigger",
		"iot-2/intf/+/rule/+/err/data",
		"iot-2/thing/type/+/id/+/intf/+/evt/state",
		"iot-2/thing/type/+/id/+/err/data",
	} {
		b.allow(f, auth.Subscribe, auth.Receive)
	}
}

// scale makes the connections of a scalable application share what they
// subscribe to. The group is one that no client can name: it has a slash.
func scale(spec *auth.Spec) error {
	c, err := ParseClientID(spec.Client)
	if err != nil {
		return err
	}
	if c.Kind != auth.Application || c.Org != spec.Principal.Org {
		return errs.E(errs.Denied, "the client id is not that of an application of the organisation")
	}
	if c.Scalable {
		spec.Shared = "A/" + c.App
		spec.Separate = c.Instance == ""
	}
	return nil
}
