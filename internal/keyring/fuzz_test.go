package keyring

import (
	"bytes"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
)

// fixed returns sealers whose keys do not change from run to run.
func fixed(t testing.TB) (s, earlier *Sealer) {
	t.Helper()
	one := func() *Sealer {
		s, err := newSealer(auth.OrgID("abc123"), bytes.Repeat([]byte{7}, keySize))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return one(), one()
}

// FuzzOpen: bytes that no Sealer has made are refused, whatever they are, and
// are not remembered.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, []byte{}, 0)
	f.Add([]byte{messageFormat}, []byte("ad"), 3)
	f.Add(make([]byte, Overhead+5), []byte{}, 30)
	f.Fuzz(func(t *testing.T, data, additional []byte, at int) {
		s, earlier := fixed(t)
		if got, err := s.Open(nil, data, additional); err == nil {
			t.Fatalf("opened %q", got)
		}
		// What was sealed opens; changed at one place it does not.
		sealed := earlier.Seal(nil, data, additional)
		if got, err := s.Open(nil, sealed, additional); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("opened %q, %v; want %q", got, err, data)
		}
		if at >= 0 {
			sealed[at%len(sealed)] ^= 0xff
			if got, err := s.Open(nil, sealed, additional); err == nil {
				t.Fatalf("opened %q with byte %d changed", got, at%len(sealed))
			}
		}
	})
}

func FuzzOpenSecret(f *testing.F) {
	f.Add([]byte{}, "p")
	f.Add(make([]byte, secretHeader+tagSize), "p")
	r := &Ring{own: bytes.Repeat([]byte{7}, keySize)}
	f.Fuzz(func(t *testing.T, data []byte, purpose string) {
		if got, err := r.Open(purpose, data); err == nil {
			t.Fatalf("opened %q", got)
		}
		sealed, err := r.Seal(purpose, data)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(purpose, sealed); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("opened %q, %v; want %q", got, err, data)
		}
	})
}

func FuzzMaster(f *testing.F) {
	f.Add([]byte(`{"format":"keepmq master key 1","keyset":{"primaryKeyId":1,"key":[]}}`))
	f.Add([]byte(`{"format":"keepmq master key 1","keyset":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseMaster(text)
		if err != nil {
			return
		}
		sealed, err := a.Encrypt([]byte("x"), nil)
		if err != nil {
			t.Fatalf("a master key that does not encrypt: %v", err)
		}
		if got, err := a.Decrypt(sealed, nil); err != nil || string(got) != "x" {
			t.Fatalf("decrypted %q, %v", got, err)
		}
	})
}

func TestAllocations(t *testing.T) {
	s, earlier := fixed(t)
	text, ad := make([]byte, 256), make([]byte, 32)
	sealed := earlier.Seal(nil, text, ad)
	dst := make([]byte, 0, len(text)+Overhead)
	if n := testing.AllocsPerRun(100, func() { s.Seal(dst, text, ad) }); n != 0 {
		t.Errorf("Seal allocates %v times", n)
	}
	if _, err := s.Open(nil, sealed, ad); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Open(dst, sealed, ad) }); n != 0 {
		t.Errorf("Open allocates %v times", n)
	}
}

func BenchmarkSeal256(b *testing.B) {
	s, _ := fixed(b)
	text, ad := make([]byte, 256), make([]byte, 32)
	dst := make([]byte, 0, len(text)+Overhead)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(dst, text, ad)
	}
}

func BenchmarkOpen256(b *testing.B) {
	s, earlier := fixed(b)
	text, ad := make([]byte, 256), make([]byte, 32)
	dst := make([]byte, 0, len(text))
	for name, sealed := range map[string][]byte{"own": s.Seal(nil, text, ad), "earlier": earlier.Seal(nil, text, ad)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Open(dst, sealed, ad); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
