package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// A sealed secret of the installation is
//
//	format 1 | salt 32 | ciphertext and tag
//
// Its key is HKDF-SHA256 of the installation's data key and the salt, used once.
const (
	secretFormat = 1
	secretSalt   = 32
	secretHeader = 1 + secretSalt
)

// Seal seals a secret of the installation, such as a signing key. Only Open with
// the same purpose opens it.
func (r *Ring) Seal(purpose string, plaintext []byte) ([]byte, error) {
	out := make([]byte, secretHeader, secretHeader+len(plaintext)+tagSize)
	out[0] = secretFormat
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	key, nonce, err := r.secretKey(purpose, out[1:])
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	return key.Seal(out, nonce, plaintext, out[:secretHeader]), nil
}

// Open opens what Seal has sealed for the same purpose.
func (r *Ring) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < secretHeader+tagSize || sealed[0] != secretFormat {
		return nil, fmt.Errorf("open %s: %w", purpose, errSealed)
	}
	key, nonce, err := r.secretKey(purpose, sealed[1:secretHeader])
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, err)
	}
	out, err := key.Open(nil, nonce, sealed[secretHeader:], sealed[:secretHeader])
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, errSealed)
	}
	return out, nil
}

// secretKey returns the key and nonce that belong to a salt. Both come from the
// salt, which is long enough never to be drawn twice.
func (r *Ring) secretKey(purpose string, salt []byte) (cipher.AEAD, []byte, error) {
	derived, err := hkdf.Key(sha256.New, r.own, salt, "keepmq secret 1\x00"+purpose, keySize+12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return nil, nil, err
	}
	key, err := cipher.NewGCM(block)
	return key, derived[keySize:], err
}
