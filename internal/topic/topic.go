// Package topic parses and matches MQTT topic names and topic filters.
//
// A Name or Filter value has always passed the checks of MQTT 5.0 section 4.7,
// so code that holds one need not check again.
package topic

import (
	"strings"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/errs"
)

// A Name is a valid topic name: no wildcards, no NUL, UTF-8, at most 65,535 bytes.
// The zero Name is not valid.
type Name struct{ s string }

// ParseName checks s and returns it as a Name.
func ParseName(s string) (Name, error) {
	switch {
	case s == "" || len(s) > 65535:
		return Name{}, errs.E(errs.Invalid, "topic name must have 1 to 65535 bytes")
	case strings.ContainsAny(s, "+#\x00"):
		return Name{}, errs.E(errs.Invalid, "topic name must not contain +, # or NUL") // [MQTT-3.3.2-2]
	case !utf8.ValidString(s):
		return Name{}, errs.E(errs.Invalid, "topic name must be UTF-8") // [MQTT-1.5.4-1]
	}
	return Name{s}, nil
}

func (n Name) String() string { return n.s }

// A Filter is a valid topic filter.
type Filter struct{ s string }

// ParseFilter checks s and returns it as a Filter.
func ParseFilter(s string) (Filter, error) {
	if s == "" || len(s) > 65535 || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return Filter{}, errs.E(errs.Invalid, "topic filter must have 1 to 65535 bytes of UTF-8 without NUL")
	}
	for i := range len(s) {
		first, last := i == 0 || s[i-1] == '/', i == len(s)-1
		switch s[i] {
		case '#':
			if !first || !last {
				return Filter{}, errs.E(errs.Invalid, "# must be the whole last level") // [MQTT-4.7.1-1]
			}
		case '+':
			if !first || !last && s[i+1] != '/' {
				return Filter{}, errs.E(errs.Invalid, "+ must be a whole level") // [MQTT-4.7.1-2]
			}
		}
	}
	return Filter{s}, nil
}

// ParseShared checks s, the filter of a SUBSCRIBE or UNSUBSCRIBE. If it is that
// of a shared subscription, "$share/{group}/{filter}", it returns the group and
// the filter in it; otherwise it is ParseFilter.
func ParseShared(s string) (group string, f Filter, shared bool, err error) {
	rest, shared := strings.CutPrefix(s, "$share/")
	if !shared {
		f, err = ParseFilter(s)
		return "", f, false, err
	}
	if len(s) > 65535 || !utf8.ValidString(s) {
		return "", Filter{}, true, errs.E(errs.Invalid, "topic filter must have 1 to 65535 bytes of UTF-8 without NUL")
	}
	group, rest, _ = strings.Cut(rest, "/")
	if group == "" || strings.ContainsAny(group, "+#\x00") {
		return "", Filter{}, true, errs.E(errs.Invalid, "the group of a shared subscription must not be empty or contain +, # or NUL") // [MQTT-4.8.2-1]
	}
	if rest == "" {
		return "", Filter{}, true, errs.E(errs.Invalid, "a shared subscription must have a topic filter after its group") // [MQTT-4.8.2-2]
	}
	if f, err = ParseFilter(rest); err != nil {
		return "", Filter{}, true, err
	}
	return group, f, true, nil
}

func (f Filter) String() string { return f.s }

// Match reports whether f matches n.
func (f Filter) Match(n Name) bool {
	fl, nl := f.s, n.s
	if strings.HasPrefix(nl, "$") && !strings.HasPrefix(fl, "$") {
		return false // [MQTT-4.7.2-1]
	}
	for {
		fh, ft, fmore := strings.Cut(fl, "/")
		if fh == "#" {
			return true
		}
		nh, nt, nmore := strings.Cut(nl, "/")
		if fh != "+" && fh != nh {
			return false
		}
		if !nmore {
			return !fmore || ft == "#" // "a/#" matches "a"
		}
		if !fmore {
			return false
		}
		fl, nl = ft, nt
	}
}

// Covers reports whether f matches every name that g matches.
func (f Filter) Covers(g Filter) bool {
	fl, gl := f.s, g.s
	if (strings.HasPrefix(gl, "$")) != (strings.HasPrefix(fl, "$")) {
		return false // [MQTT-4.7.2-1]
	}
	if fl == "+/#" {
		return true // every name has a first level, so this is "#"
	}
	for {
		fh, ft, fmore := strings.Cut(fl, "/")
		if fh == "#" {
			return true
		}
		gh, gt, gmore := strings.Cut(gl, "/")
		if gh == "#" || fh != "+" && fh != gh {
			return false
		}
		if !gmore {
			return !fmore || ft == "#"
		}
		if !fmore {
			return false
		}
		fl, gl = ft, gt
	}
}

// Overlaps reports whether there is a name that both f and g match.
func (f Filter) Overlaps(g Filter) bool {
	fl, gl := f.s, g.s
	if (strings.HasPrefix(gl, "$")) != (strings.HasPrefix(fl, "$")) {
		return false // [MQTT-4.7.2-1]
	}
	for {
		fh, ft, fmore := strings.Cut(fl, "/")
		gh, gt, gmore := strings.Cut(gl, "/")
		switch {
		case fh == "#" || gh == "#":
			return true
		case fh != "+" && gh != "+" && fh != gh:
			return false
		case !fmore || !gmore:
			return fmore == gmore || ft == "#" || gt == "#" // "a/#" matches "a"
		}
		fl, gl = ft, gt
	}
}

// Prefix returns the longest string with which every name that f matches begins,
// so that names in order can be searched for them. Not every name that begins
// with it is matched.
func (f Filter) Prefix() string {
	i := strings.IndexAny(f.s, "+#")
	if i < 0 {
		return f.s
	}
	if f.s[i] == '#' && i > 0 {
		i-- // "a/#" matches "a"
	}
	return f.s[:i]
}

// Clip returns s as far as a log or a message to its owner has room for it: 200
// bytes, of up to 65,535.
func Clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
