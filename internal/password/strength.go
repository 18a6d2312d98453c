package password

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// The lengths of a password (NIST SP 800-63B §5.1.1.2 asks for at least 8; there is
// no rule about what kinds of characters it has).
const (
	minLength = 10
	maxLength = 256
)

// common are words that passwords which were found in breaches are made of.
// Whatever is left of a password without them, and without what continues a
// sequence, has to be long enough by itself.
var common = strings.Fields(`
	password passwort passw0rd p@ssword p@ssw0rd losenord motdepasse contrasena wachtwoord parola senha
	qwertyuiop qwerty qwertz azerty asdfghjkl asdfgh zxcvbnm yxcvbnm 1q2w3e4r5t 1q2w3e4r 1qaz2wsx qazwsx qweasd
	123456789 12345678 1234567 123456 12345 1234 987654321 87654321 7654321 654321 54321 4321 111111 000000 123123 121212 112233
	letmein welcome willkommen iloveyou ihateyou trustno1 whatever nothing secret default changeme change-me
	admin administrator root user test guest demo login master server system manager owner keepmq mqtt mosquitto broker device sensor
	monkey dragon shadow sunshine princess football baseball basketball soccer hockey superman batman spiderman pokemon starwars
	michael jennifer jordan thomas daniel robert charlie andrew joshua matthew anthony jessica ashley nicole hannah amanda
	summer winter spring autumn january february march april june july august september october november december
	monday tuesday wednesday thursday friday saturday sunday london paris berlin stockholm newyork
	google facebook amazon microsoft apple samsung internet computer killer hunter ranger buster pepper ginger tigger maggie
	cheese banana orange purple yellow silver golden diamond freedom love hello abc123 abcdef abcdefg qwe123 asd123 zxc123 aaaaaa`)

// leet maps what stands for a letter to the letter.
var leet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// Strong checks that a password is not one of those that are tried first. personal
// is what others know of who chooses it: name, e-mail address, organisation.
func Strong(p secret.String, personal ...string) error {
	s := p.Reveal()
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return errs.E(errs.Invalid, "password must be UTF-8")
	case n < minLength:
		return errs.E(errs.Invalid, "password must have at least %d characters, has %d; four words that have nothing to do with each other are a good one", minLength, n)
	case n > maxLength:
		return errs.E(errs.Invalid, "password must have at most %d characters, has %d", maxLength, n)
	case strings.ContainsFunc(s, unicode.IsControl):
		return errs.E(errs.Invalid, "password must not have control characters")
	}
	low := strings.ToLower(s)
	for _, known := range personal {
		for _, part := range strings.FieldsFunc(strings.ToLower(known), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
			if len(part) >= 4 && strings.Contains(low, part) {
				return errs.E(errs.Invalid, "password must not contain your name, e-mail address or organisation")
			}
		}
	}
	if effort(low) < minLength-2 || effort(leet.Replace(low)) < minLength-2 {
		return errs.E(errs.Invalid, "password is easy to guess: it is made of what many choose, or repeats itself; four words that have nothing to do with each other are a good one")
	}
	return nil
}

// effort estimates how many characters of s somebody has to guess: a common word,
// a run and a repetition count as one or two.
func effort(s string) int {
	for {
		word := ""
		for _, w := range common {
			if len(w) > len(word) && strings.Contains(s, w) {
				word = w
			}
		}
		if word == "" {
			break
		}
		s = strings.ReplaceAll(s, word, "\x00")
	}
	var guessed int
	runes := []rune(s)
	seen := map[rune]bool{}
	for i, c := range runes {
		step := rune(0)
		if i > 0 {
			step = c - runes[i-1]
		}
		switch {
		case c == 0:
			guessed += 2
		case i > 0 && step >= -1 && step <= 1: // a repetition or a run
		case i > 1 && c == runes[i-2]: // abab
		case seen[c]:
			guessed++
		default:
			guessed++
			seen[c] = true
		}
	}
	if len(seen) < 5 && !strings.ContainsRune(s, 0) {
		return len(seen)
	}
	return guessed
}
