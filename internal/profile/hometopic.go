package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// A HomeTopic is a topic of a home organisation whose messages tell what belongs
// to whom.
type HomeTopic struct {
	Prefix string // of the organisation's topics
	Kind   string // "device", "provider", "announce" or "leave"
	ID     string // of a device or provider
}

// ParseHomeTopic reads the guarded topic n of org.
func ParseHomeTopic(org auth.OrgID, n topic.Name) (HomeTopic, error) {
	s := n.String()
	if t, ok := homeTopic(s); ok {
		return t, nil
	}
	prefix := string(org) + "/"
	if rest, ok := strings.CutPrefix(s, prefix); ok {
		if t, ok := homeTopic(rest); ok {
			t.Prefix = prefix
			return t, nil
		}
	}
	return HomeTopic{}, errs.E(errs.Denied, "this is no topic of a device or provider")
}

func homeTopic(s string) (t HomeTopic, ok bool) {
	t.Kind, t.ID, _ = strings.Cut(s, "/")
	switch t.Kind {
	case "device", "provider":
		return t, t.ID != "" && !strings.Contains(t.ID, "/")
	case "announce", "leave":
		t.ID = ""
		return t, true
	}
	return t, false
}

// A HomeDevice is what the metadata of a device say of its place.
type HomeDevice struct {
	Root       string
	ProviderID string // ""; of the bridge that publishes it
}

// ParseHomeDevice reads the metadata of a device. It refuses what two readers
// may understand differently: a key that comes twice, or in another case.
func ParseHomeDevice(payload []byte) (d HomeDevice, err error) {
	fields, err := object(payload)
	if err != nil {
		return d, err
	}
	if d.Root, err = text(fields, "root"); err != nil {
		return d, err
	}
	if d.ProviderID, err = text(fields, "providerID"); err != nil {
		return d, err
	}
	if _, err := topic.ParseName("current/" + d.Root + "/reachable"); d.Root == "" || err != nil {
		return d, errs.E(errs.Invalid, `the metadata of a device must have a "root" that is part of a topic`)
	}
	return d, nil
}

// CheckHomeDevice checks that the metadata of a device are of one of name's own.
func CheckHomeDevice(payload []byte, name string) error {
	d, err := ParseHomeDevice(payload)
	if err == nil && !below(d.Root, name) {
		err = errs.E(errs.Denied, `the "root" of a device must begin with the name of its provider and a slash`)
	}
	return err
}

// CheckAnnounce checks that what version 0 says of a device is of one of name's own.
func CheckAnnounce(payload []byte, name string) error {
	fields, err := object(payload)
	if err != nil {
		return err
	}
	features, err := object(fields["feature"])
	if err != nil && len(fields["feature"]) > 0 {
		return err
	}
	own := func(fields map[string]json.RawMessage, key string) error {
		s, err := text(fields, key)
		if err == nil && s != "" && s != name && !below(s, name) {
			err = errs.E(errs.Denied, "%q must begin with the name of the provider and a slash", key)
		}
		return err
	}
	err = errors.Join(own(fields, "topic"), own(fields, "lastWillID"))
	for _, f := range features {
		feature, bad := object(f)
		err = errors.Join(err, bad, own(feature, "getTopic"), own(feature, "setTopic"))
	}
	if err != nil {
		return errs.E(errs.Denied, "topics and lastWillID of a device must begin with the name of its provider and a slash")
	}
	return nil
}

// CheckLeave checks that it is one of name's own that leaves.
func CheckLeave(payload []byte, name string) error {
	if s := string(payload); s != name && !below(s, name) {
		return errs.E(errs.Denied, "who leaves must begin with the name of the provider and a slash")
	}
	return nil
}

// below reports whether s is a part of a topic below name.
func below(s, name string) bool {
	rest, ok := strings.CutPrefix(s, name+"/")
	return ok && rest != "" && !strings.ContainsAny(rest, "+#\x00") && utf8.ValidString(rest)
}

// text returns the string in a field, "" if it is not there or null.
func text(fields map[string]json.RawMessage, key string) (string, error) {
	var s string
	if v, ok := fields[key]; ok {
		if err := json.Unmarshal(v, &s); err != nil {
			return "", errs.E(errs.Invalid, "%q must be a string", key)
		}
	}
	return s, nil
}

// object reads a JSON object and nothing after it. No two keys may be the same
// but for their case: there are readers to whom they are.
func object(b []byte) (map[string]json.RawMessage, error) {
	bad := errs.E(errs.Invalid, "the message must be one JSON object in UTF-8, each key once")
	if !utf8.Valid(b) {
		return nil, bad
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	fields, seen := map[string]json.RawMessage{}, map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, bad
		}
		key, ok := t.(string)
		folded := fold(key)
		if !ok || seen[folded] || len(seen) >= maxFields {
			return nil, bad
		}
		seen[folded] = true
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, bad
		}
		fields[key] = v
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	for _, key := range [...]string{"root", "providerID", "feature", "topic", "lastWillID", "getTopic", "setTopic"} {
		if _, exact := fields[key]; !exact && seen[fold(key)] {
			return nil, bad
		}
	}
	return fields, nil
}

// maxFields bounds the keys of one object.
const maxFields = 1000

// fold returns s as readers compare keys that do not care for case.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }
