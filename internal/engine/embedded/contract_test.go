package embedded_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/engine/enginetest"
)

// aead seals with AES-GCM under a key of the organisation.
type aead struct{ cipher.AEAD }

func (a aead) Seal(dst, plaintext, additional []byte) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, a.NonceSize())...)
	nonce := dst[n:]
	if _, err := rand.Read(nonce); err != nil {
		panic(err)
	}
	return a.AEAD.Seal(dst, nonce, plaintext, additional)
}

func (a aead) Open(dst, sealed, additional []byte) ([]byte, error) {
	if len(sealed) < a.NonceSize() {
		return nil, io.ErrUnexpectedEOF
	}
	return a.AEAD.Open(dst, sealed[:a.NonceSize()], sealed[a.NonceSize():], additional)
}

func sealer(_ context.Context, org auth.OrgID) (embedded.Sealer, error) {
	key := sha256.Sum256([]byte("key of " + org))
	b, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	g, err := cipher.NewGCM(b)
	return aead{g}, err
}

func options(fs vfs.FS) embedded.Options {
	return embedded.Options{
		Dir: "data", FS: fs, Sealer: sealer, Log: slog.New(slog.DiscardHandler),
		Limits: embedded.Limits{Queue: enginetest.Limits.Queue},
	}
}

// memory is a store on a disk in memory that forgets what was not synced.
type memory struct {
	fs      *vfs.MemFS
	open    *embedded.Engine
	crashes uint64
}

func newMemory(t *testing.T) enginetest.Store {
	m := &memory{fs: vfs.NewCrashableMem()}
	t.Cleanup(func() {
		m.Close(t)
		m.check(t)
	})
	return m
}

func (m *memory) Open(t *testing.T) engine.Engine {
	t.Helper()
	m.Close(t)
	m.check(t)
	e, err := embedded.Open(context.Background(), options(m.fs))
	if err != nil {
		t.Fatal(err)
	}
	m.open = e
	return e
}

func (m *memory) Close(t *testing.T) {
	t.Helper()
	if m.open == nil {
		return
	}
	if err := m.open.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	m.open = nil
}

// check checks a copy of what is on the disk.
func (m *memory) check(t *testing.T) {
	t.Helper()
	if _, err := m.fs.Stat("data"); err != nil {
		return
	}
	copied := m.fs.CrashClone(vfs.CrashCloneCfg{})
	if err := embedded.CheckStore(copied, "data"); err != nil {
		t.Errorf("the store is not consistent: %v", err)
	}
}

func (m *memory) Crash(t *testing.T) {
	t.Helper()
	// Of what was not synced, any part may be there.
	cfg := vfs.CrashCloneCfg{RNG: mathrand.New(mathrand.NewPCG(m.crashes, 0))}
	if m.crashes++; m.crashes%2 == 0 {
		cfg.UnsyncedDataPercent = 50
	}
	after := m.fs.CrashClone(cfg)
	m.Close(t) // changes nothing in what is left after the crash
	m.fs = after
}

func TestContract(t *testing.T) { enginetest.Test(t, newMemory) }

func TestTime(t *testing.T) { enginetest.TestTime(t, newMemory) }

func TestRandom(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if testing.Short() {
		seeds = seeds[:2]
	}
	enginetest.TestRandom(t, newMemory, seeds, 400)
}
