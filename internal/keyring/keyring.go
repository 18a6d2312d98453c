// Package keyring keeps the keys that data is sealed with.
//
// A master key in a file of its own wraps one data key per organisation and one
// for the installation; the wrapped keys are in the database. Neither the
// database nor a stored message can be read without the master key, and deleting
// an organisation's data key makes everything sealed for it unreadable for good,
// in every copy that does not also hold an older wrapped key.
//
// It does not decide who may read. It does not protect against somebody who can
// read both the database and the master key file.
package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	keySize      = 32
	installation = "installation" // the name of the data key that belongs to no organisation
)

// A Ring seals and opens with the keys of one installation. It may be used from
// any goroutine.
type Ring struct {
	db     store.DB
	path   string // of the master key
	master tink.AEAD
	own    []byte // the installation's data key

	mu      sync.RWMutex // guards the fields below
	sealers map[auth.OrgID]*Sealer
	deleted uint64 // how many organisations' keys were deleted
}

// Open reads the master key from the folder dir and the installation's key from
// db, and makes them if there is nothing yet. If db holds wrapped keys and the
// master key is missing or another one, it refuses: a new key could not open the
// data.
func Open(ctx context.Context, dir string, db store.DB) (*Ring, error) {
	wrapped, err := anyWrapped(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	master, err := openMaster(dir, !wrapped)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	r := &Ring{db: db, path: filepath.Join(dir, masterName), master: master, sealers: map[auth.OrgID]*Sealer{}}
	err = db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		r.own, err = r.unwrap(ctx, tx, installation)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := r.create(ctx, tx, installation); err != nil {
			return err
		}
		r.own, err = r.unwrap(ctx, tx, installation)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open keyring: installation key: %w", err)
	}
	return r, nil
}

func anyWrapped(ctx context.Context, db store.DB) (bool, error) {
	var n int
	err := db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM data_key`).Scan(&n)
	})
	return n > 0, err
}

func orgKey(org auth.OrgID) string { return "org:" + string(org) }

// Create makes a data key for org in the caller's transaction.
func (r *Ring) Create(ctx context.Context, tx *store.Tx, org auth.OrgID) error {
	if err := r.create(ctx, tx, orgKey(org)); err != nil {
		if store.IsUnique(err) {
			return errs.E(errs.Conflict, "organisation %q has a data key already", org)
		}
		return fmt.Errorf("create data key: %w", err)
	}
	return nil
}

func (r *Ring) create(ctx context.Context, tx *store.Tx, name string) error {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	defer clear(key)
	wrapped, err := r.master.Encrypt(key, wrapContext(name))
	if err != nil {
		return fmt.Errorf("wrap key: %w", err)
	}
	const q = `INSERT INTO data_key (name, wrapped, created_at) VALUES ($1, $2, $3)`
	_, err = tx.ExecContext(ctx, q, name, wrapped, time.Now().UnixMicro())
	return err
}

// wrapContext binds a wrapped key to its name, so that one row cannot be put in
// the place of another.
func wrapContext(name string) []byte { return []byte("keepmq data key 1\x00" + name) }

// unwrap returns the data key with that name, or sql.ErrNoRows.
func (r *Ring) unwrap(ctx context.Context, tx *store.Tx, name string) ([]byte, error) {
	var wrapped []byte
	err := tx.QueryRowContext(ctx, `SELECT wrapped FROM data_key WHERE name = $1`, name).Scan(&wrapped)
	if err != nil {
		return nil, err
	}
	key, err := r.master.Decrypt(wrapped, wrapContext(name))
	if err != nil || len(key) != keySize {
		return nil, errs.Wrap(errs.Unavailable, err, "the master key "+r.path+" does not open the stored keys: it is damaged or not the one of this data, or the database was changed; put back the file or the database from your copy")
	}
	return key, nil
}

// Delete shreds the data key of org in the caller's transaction. From the commit
// on nothing that was sealed for org can be opened, by Sealers in use neither.
func (r *Ring) Delete(ctx context.Context, tx *store.Tx, org auth.OrgID) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM data_key WHERE name = $1`, orgKey(org))
	if err != nil {
		return fmt.Errorf("delete data key: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("delete data key: %w", err)
	}
	if n == 0 {
		return errs.E(errs.NotFound, "organisation %q has no data key", org)
	}
	tx.OnCommit(func() { r.forget(org) })
	return nil
}

func (r *Ring) forget(org auth.OrgID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deleted++
	if s := r.sealers[org]; s != nil {
		s.shred()
		delete(r.sealers, org)
	}
}

// Sealer returns what seals messages of org. There is one per organisation; it
// stays good until the organisation's key is deleted.
func (r *Ring) Sealer(ctx context.Context, org auth.OrgID) (*Sealer, error) {
	const attempts = 100 // each one lost to the deletion of some organisation's key
	for range attempts {
		r.mu.RLock()
		s, deleted := r.sealers[org], r.deleted
		r.mu.RUnlock()
		if s != nil {
			return s, nil
		}
		var key []byte
		err := r.db.View(store.ForOrg(ctx, string(org)), func(tx *store.Tx) (err error) {
			key, err = r.unwrap(ctx, tx, orgKey(org))
			return err
		})
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errs.E(errs.NotFound, "organisation %q has no data key", org)
		}
		if err != nil {
			return nil, fmt.Errorf("open data key: %w", err)
		}
		fresh, err := newSealer(org, key)
		if err != nil {
			return nil, fmt.Errorf("open data key: %w", err)
		}
		if s, ok := r.keep(org, fresh, deleted); ok {
			return s, nil
		}
	}
	return nil, errs.E(errs.Unavailable, "keys are being deleted; try again")
}

// keep remembers s unless a key was deleted since it was read, which may have
// been this one: then it has to be read again.
func (r *Ring) keep(org auth.OrgID, s *Sealer, deleted uint64) (*Sealer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deleted != deleted {
		return nil, false
	}
	if first := r.sealers[org]; first != nil {
		return first, true // one organisation, one counter
	}
	r.sealers[org] = s
	return s, true
}

// MAC returns a keyed hash of parts: HMAC-SHA256 under a key for that purpose
// alone. Where one part ends is hashed too.
func (r *Ring) MAC(purpose string, parts ...[]byte) []byte {
	key, err := hkdf.Key(sha256.New, r.own, nil, "keepmq mac 1\x00"+purpose, keySize)
	if err != nil { // the length is constant and allowed
		panic(err)
	}
	h := hmac.New(sha256.New, key)
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	return h.Sum(nil)
}
