package auth

import (
	"regexp"
	"testing"
)

var (
	orgPattern  = regexp.MustCompile(`\A[a-z0-9]{6}\z`)
	namePattern = regexp.MustCompile(`\A[A-Za-z0-9._-]{1,36}\z`)
)

// FuzzNames reads any string as the name of an organisation and of a device.
// What is accepted cannot be more than one level of a topic.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"abc123", "ABC123", "abc12", "a.b-c_D", "a/b", "+", "#", "é", "", "a\x00", "abc123\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseOrgID(s); (err == nil) != orgPattern.MatchString(s) || err == nil && string(id) != s {
			t.Fatalf("organisation %q: %q, %v", s, id, err)
		}
		if err := CheckName("name", s); (err == nil) != namePattern.MatchString(s) {
			t.Fatalf("name %q: %v", s, err)
		}
	})
}
