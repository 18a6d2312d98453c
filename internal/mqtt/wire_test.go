package mqtt

import (
	"math/rand/v2"
	"testing"
)

// classify agrees with its table at every length, place and byte.
func TestClassify(t *testing.T) {
	slow := func(s []byte) (k byte) {
		for _, b := range s {
			k |= class[b]
		}
		return k
	}
	for n := range 20 {
		for i := range n {
			for b := range 256 {
				s := make([]byte, n)
				for j := range s {
					s[j] = "aZ/ \x01\x7f$*,\"!"[(i+j)%11]
				}
				s[i] = byte(b)
				if got, want := classify(s), slow(s); got != want {
					t.Fatalf("%q: got %b, want %b", s, got, want)
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		s := make([]byte, 8+r.IntN(16))
		for j := range s {
			s[j] = "\x00\x01\x02+*,#\"$\x7f\x80\x81a"[r.IntN(13)]
		}
		if got, want := classify(s), slow(s); got != want {
			t.Fatalf("%q: got %b, want %b", s, got, want)
		}
	}
}
