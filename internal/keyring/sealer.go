package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/auth"
)

// A sealed message is
//
//	format 1 | salt 16 | counter 8 | ciphertext and tag
//
// The salt is drawn when a Sealer is made and selects the key: HKDF-SHA256 of
// the organisation's data key. The counter goes up with every message of that
// Sealer. So a key and nonce are never used twice: a restart, also after a crash
// or from an older copy of the disk, has another salt.
const (
	messageFormat = 1
	saltSize      = 16
	headerSize    = 1 + saltSize + 8
	tagSize       = 16

	// The nonce is a piece of the header, the salt's end and the counter, so
	// that it needs no memory of its own.
	nonceStart = headerSize - 12
)

// Overhead is how much longer a sealed message is than the message.
const Overhead = headerSize + tagSize

// maxOthers bounds the keys of former starts that a Sealer remembers.
const maxOthers = 32

// errSealed says nothing about why, because nobody could do anything about it.
var errSealed = errors.New("sealed data cannot be opened: it was changed, or its key is gone")

// A Sealer seals and opens the messages of one organisation. It may be used from
// any goroutine.
type Sealer struct {
	org     auth.OrgID
	salt    [saltSize]byte
	own     cipher.AEAD
	counter atomic.Uint64
	gone    atomic.Bool

	others atomic.Pointer[map[[saltSize]byte]cipher.AEAD] // of former starts; replaced, never changed

	mu  sync.Mutex // guards key, and replacing others
	key []byte     // the organisation's data key; nil once it was deleted
}

func newSealer(org auth.OrgID, key []byte) (*Sealer, error) {
	s := &Sealer{org: org, key: key}
	if _, err := rand.Read(s.salt[:]); err != nil {
		return nil, err
	}
	var err error
	s.own, err = messageKey(key, org, s.salt)
	s.others.Store(&map[[saltSize]byte]cipher.AEAD{})
	return s, err
}

func messageKey(key []byte, org auth.OrgID, salt [saltSize]byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, salt[:], "keepmq message 1\x00"+string(org), keySize)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal appends the sealed plaintext to dst; len(plaintext)+Overhead bytes of
// spare room spare an allocation. additional is not stored, and opening needs
// the same. plaintext must not overlap the spare room of dst. What is sealed
// after the organisation's key was deleted cannot be opened by anybody.
func (s *Sealer) Seal(dst, plaintext, additional []byte) []byte {
	start := len(dst)
	dst = append(dst, messageFormat)
	dst = append(dst, s.salt[:]...)
	dst = binary.BigEndian.AppendUint64(dst, s.counter.Add(1))
	return s.own.Seal(dst, dst[start+nonceStart:start+headerSize], plaintext, additional)
}

// Open appends to dst the plaintext of what a Sealer of the same organisation
// has sealed with the same additional data, in this process or an earlier one.
func (s *Sealer) Open(dst, sealed, additional []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != messageFormat || s.gone.Load() {
		return nil, errSealed
	}
	salt := [saltSize]byte(sealed[1 : 1+saltSize])
	key, known := s.own, true
	if salt != s.salt {
		if key, known = (*s.others.Load())[salt]; !known {
			var err error
			if key, err = s.derive(salt); err != nil {
				return nil, errSealed
			}
		}
	}
	out, err := key.Open(dst, sealed[nonceStart:headerSize], sealed[headerSize:], additional)
	if err != nil {
		return nil, errSealed
	}
	if !known {
		s.remember(salt, key) // now that it has proven to be one of ours
	}
	return out, nil
}

func (s *Sealer) derive(salt [saltSize]byte) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		return nil, errSealed
	}
	return messageKey(s.key, s.org, salt)
}

func (s *Sealer) remember(salt [saltSize]byte, key cipher.AEAD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		return
	}
	others := maps.Clone(*s.others.Load())
	for victim := range others {
		if len(others) < maxOthers {
			break
		}
		delete(others, victim)
	}
	others[salt] = key
	s.others.Store(&others)
}

// shred makes the Sealer useless: the organisation's key was deleted.
func (s *Sealer) shred() {
	s.gone.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.key)
	s.key = nil
	s.others.Store(&map[[saltSize]byte]cipher.AEAD{})
}
