package sasl

import "strings"

// A Bearer is the one message of a client in OAUTHBEARER.
type Bearer struct {
	Authzid string // the name to act as; "": the token alone says it
	Token   string
}

const separator = "\x01"

// ParseBearer reads the message. Pairs other than auth (host, port) are
// well formed and otherwise ignored, as RFC 7628, 3.1 wants it.
func ParseBearer(msg []byte) (Bearer, error) {
	if len(msg) > MaxMessage {
		return Bearer{}, errLong
	}
	authzid, _, rest, err := header(string(msg))
	if err != nil {
		return Bearer{}, err
	}
	rest, ok := strings.CutPrefix(rest, separator)
	if !ok {
		return Bearer{}, errForm
	}
	pairs, ok := strings.CutSuffix(rest, separator+separator)
	if !ok {
		return Bearer{}, errForm
	}
	b := Bearer{Authzid: authzid}
	for pair := range strings.SplitSeq(pairs, separator) {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || !letters(key) || !printable(value) {
			return Bearer{}, errForm
		}
		if key != "auth" {
			continue
		}
		scheme, token, ok := strings.Cut(value, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || b.Token != "" || !isToken(token) {
			return Bearer{}, errForm
		}
		b.Token = token
	}
	if b.Token == "" {
		return Bearer{}, errForm
	}
	return b, nil
}

func letters(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}

// printable reports whether s is visible ASCII, blanks and line ends.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// isToken reports whether s is a b64token (RFC 6750, 2.1).
func isToken(s string) bool {
	s = strings.TrimRight(s, "=")
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
