// Package password keeps and judges passwords that people choose.
//
// What is kept is a hash made with argon2id (RFC 9106) in the PHC string format.
// Hashes of other programs are accepted so that people keep their passwords when
// they move here; whoever checks one is told to make a new one.
//
// A hash takes tens of milliseconds and 19 MiB, so that guessing is dear. As many
// are computed at a time as there are processors: a flood waits, and takes no more
// memory.
package password

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/keepmq/keepmq/internal/secret"
)

// What a new hash costs: the second recommendation of OWASP's cheat sheet, for
// servers where many may sign in at one time.
const (
	memory  = 19 << 10 // KiB
	passes  = 2
	threads = 1
	saltLen = 16
	keyLen  = 32
)

// What a stored hash may cost at most, so that one that somebody imported does not
// hold us up.
const (
	maxMemory     = 256 << 10 // KiB
	maxPasses     = 16
	maxThreads    = 16
	maxIterations = 2_000_000
	maxBcrypt     = 14
	maxKey        = 128
	maxStored     = 512 // bytes of a stored hash
	maxPassword   = 512 // bytes of a password
)

// ErrFormat says that a stored hash is none that is known, or costs too much.
var ErrFormat = errors.New("the stored password hash is of no known format, or costs too much to check")

var turns = make(chan struct{}, runtime.GOMAXPROCS(0))

// turn waits for a turn to compute, and returns what gives it back.
func turn(ctx context.Context) (func(), error) {
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn to check a password: %w", ctx.Err())
	}
}

// Hash returns what is stored for p.
func Hash(ctx context.Context, p secret.String) (string, error) {
	done, err := turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // it never fails; the program ends if the system has no randomness
	key := argon2.IDKey([]byte(p.Reveal()), salt, passes, memory, threads, keyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// decoy is checked where there is no hash, at the cost of one.
var decoy = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads,
	base64.RawStdEncoding.EncodeToString(make([]byte, saltLen)), base64.RawStdEncoding.EncodeToString(make([]byte, keyLen)))

// Verify reports whether stored was made from p, and whether what is stored should
// be made anew. With nothing stored it costs the same and says no.
func Verify(ctx context.Context, stored string, p secret.String) (ok, outdated bool, err error) {
	h, err := parse(stored)
	if stored == "" {
		h, err = parse(decoy)
	}
	if err != nil {
		return false, false, err
	}
	done, err := turn(ctx)
	if err != nil {
		return false, false, err
	}
	defer done()
	if len(p.Reveal()) > maxPassword {
		return false, false, nil
	}
	ok, err = h.matches([]byte(p.Reveal()))
	return ok && stored != "", h.outdated, err
}

// Check checks that stored is a hash that Verify can check.
func Check(stored string) error {
	_, err := parse(stored)
	return err
}

// A hash is a stored hash, read.
type hash struct {
	outdated bool
	matches  func(p []byte) (bool, error)
}

// same returns how a key that is derived is compared with the stored one.
func same(want []byte, derive func(p []byte) ([]byte, error)) func([]byte) (bool, error) {
	return func(p []byte) (bool, error) {
		got, err := derive(p)
		return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
	}
}

func parse(stored string) (hash, error) {
	if len(stored) > maxStored {
		return hash{}, ErrFormat
	}
	parts := strings.Split(stored, "$")
	switch {
	case strings.HasPrefix(stored, "$argon2id$"):
		return parseArgon(parts)
	case strings.HasPrefix(stored, "$2a$"), strings.HasPrefix(stored, "$2b$"), strings.HasPrefix(stored, "$2y$"):
		return parseBcrypt(stored)
	case strings.HasPrefix(stored, "$7$") && len(parts) == 5: // mosquitto_passwd
		return parsePBKDF2(parts[2], parts[3], parts[4])
	case strings.HasPrefix(stored, "PBKDF2$sha512$") && len(parts) == 5: // mosquitto-go-auth
		return parsePBKDF2(parts[2], parts[3], parts[4])
	case strings.HasPrefix(stored, "$pbkdf2-sha512$") && len(parts) == 5: // PHC, and passlib with a dot for a plus
		plus := strings.NewReplacer(".", "+")
		return parsePBKDF2(strings.TrimPrefix(parts[2], "i="), plus.Replace(parts[3]), plus.Replace(parts[4]))
	}
	return hash{}, ErrFormat
}

// parseArgon reads "$argon2id$v=19$m=…,t=…,p=…$salt$key".
func parseArgon(parts []string) (hash, error) {
	if len(parts) != 6 || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return hash{}, ErrFormat
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return hash{}, ErrFormat
	}
	var n [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		s, ok := strings.CutPrefix(costs[i], name)
		v, err := strconv.ParseUint(s, 10, 32)
		if !ok || err != nil {
			return hash{}, ErrFormat
		}
		n[i] = v
	}
	salt, key, err := decoded(parts[4], parts[5])
	if err != nil || n[0] > maxMemory || n[1] < 1 || n[1] > maxPasses || n[2] < 1 || n[2] > maxThreads || n[0] < 8*n[2] || len(salt) < 8 {
		return hash{}, ErrFormat
	}
	return hash{
		outdated: n != [3]uint64{memory, passes, threads} || len(key) != keyLen,
		matches: same(key, func(p []byte) ([]byte, error) {
			return argon2.IDKey(p, salt, uint32(n[1]), uint32(n[0]), uint8(n[2]), uint32(len(key))), nil
		}),
	}, nil
}

func parseBcrypt(stored string) (hash, error) {
	cost, err := bcrypt.Cost([]byte(stored))
	if err != nil || cost > maxBcrypt || len(stored) != 60 {
		return hash{}, ErrFormat
	}
	return hash{outdated: true, matches: func(p []byte) (bool, error) {
		if len(p) > 72 { // bcrypt looks at no more; who made the hash cut it there
			p = p[:72]
		}
		err := bcrypt.CompareHashAndPassword([]byte(stored), p)
		if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, nil
		}
		return err == nil, err
	}}, nil
}

func parsePBKDF2(iterations, saltText, keyText string) (hash, error) {
	n, err := strconv.Atoi(iterations)
	if err != nil || n < 1 || n > maxIterations {
		return hash{}, ErrFormat
	}
	salt, key, err := decoded(saltText, keyText)
	if err != nil {
		return hash{}, ErrFormat
	}
	return hash{outdated: true, matches: same(key, func(p []byte) ([]byte, error) {
		return pbkdf2.Key(sha512.New, string(p), salt, n, len(key))
	})}, nil
}

// decoded reads a salt and a key in base64, with padding or without.
func decoded(saltText, keyText string) (salt, key []byte, err error) {
	if salt, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(saltText, "=")); err != nil {
		return nil, nil, err
	}
	key, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(keyText, "="))
	if err == nil && (len(key) < 16 || len(key) > maxKey || len(salt) > maxKey) {
		err = ErrFormat
	}
	return salt, key, err
}
