package registry

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/errs"
)

// mistakes collects what is wrong with a request, so that its owner sees all of
// it at once.
type mistakes []string

// add notes err's public message; nil is no mistake.
func (m *mistakes) add(err error) {
	if err != nil {
		*m = append(*m, errs.Message(err))
	}
}

// err returns every mistake as one errs.Invalid, or nil.
func (m mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return errs.E(errs.Invalid, "%s", strings.Join(m, "; "))
}

// checkText checks a text meant for people. Control characters are refused
// because such texts end on terminals and pages.
func checkText(field, s string, limit int) error {
	if !utf8.ValidString(s) {
		return errs.E(errs.Invalid, "%s must be UTF-8", field)
	}
	if n := utf8.RuneCountInString(s); n > limit {
		return errs.E(errs.Invalid, "%s must have at most %d characters, has %d", field, limit, n)
	}
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return errs.E(errs.Invalid, "%s must not contain control characters or line breaks", field)
	}
	return nil
}

// checkUserName checks the name of a plain MQTT user.
func checkUserName(s string) error {
	if s == "" || len(s) > 64 {
		return errs.E(errs.Invalid, "user name must have 1 to 64 characters, has %d", len(s))
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("._@-", c) >= 0:
		default:
			return errs.E(errs.Invalid, "user name may contain letters, digits, dot, underscore, @ and hyphen only")
		}
	}
	return nil
}
