package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/keepmq/keepmq/internal/config"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

const (
	sqliteFile    = "keepmq.db"
	storeMark     = "store" // the file that says where the state is, if not in the folder
	maxSecretFile = 8192
)

// openStore opens the state where the configuration says it is. The messages and
// the master key in the data folder belong to one state only, so a folder that
// has begun with one store does not go on with another.
func (n *Node) openStore(ctx context.Context) error {
	c := n.config.Store
	file, other, begun := n.folder.join(sqliteFile), n.folder.join(storeMark), false
	if c.Driver == config.Postgres {
		file, other = other, file
	}
	switch _, err := os.Stat(other); {
	case err == nil:
		return errs.E(errs.Invalid, "data folder %s: its state is not in the store %q; choose the one it began with, or another folder", n.folder.path, c.Driver)
	case !errors.Is(err, fs.ErrNotExist):
		return folderError(n.folder.path, err)
	}
	if _, err := os.Stat(file); err == nil {
		begun = true
	}
	if c.Driver != config.Postgres {
		db, err := sqlite.Open(ctx, file)
		if err == nil { // a nil *sqlite.DB would not be a nil store.DB
			n.db = db
		}
		return err
	}
	where, err := database(c)
	if err != nil {
		return err
	}
	db, err := postgres.Open(ctx, where)
	if err != nil {
		return err
	}
	n.db, n.lost = db, db.Lost()
	if begun {
		return nil
	}
	return n.folder.write(storeMark, []byte(config.Postgres+"\n"), 0o600)
}

// keepStore ends the node when its state was taken by another one.
func (n *Node) keepStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.lost:
		return errs.E(errs.Conflict, "another KeepMQ has taken the database; this one ends, because what it remembers may be wrong")
	}
}

// CheckStore reports whether the database that c names can be reached and used.
func CheckStore(ctx context.Context, c config.Config) error {
	if c.Store.Driver != config.Postgres {
		return nil
	}
	where, err := database(c.Store)
	if err != nil {
		return err
	}
	return postgres.Check(ctx, where)
}

// database reads the URLs that c names.
func database(c config.Store) (where postgres.Config, err error) {
	if where.DSN, err = readSecret("store.dsn_file", c.DSNFile); err != nil || c.OwnerDSNFile == "" {
		return where, err
	}
	where.OwnerDSN, err = readSecret("store.owner_dsn_file", c.OwnerDSNFile)
	return where, err
}

// readSecret reads a file with a secret, or with a database URL, which holds one.
// Nobody but its owner may read it.
func readSecret(key, file string) (secret.String, error) {
	f, err := os.Open(file)
	if err != nil {
		return secret.String{}, errs.Wrap(errs.Invalid, err, key+": the file cannot be read")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.String{}, fmt.Errorf("%s: %w", key, err)
	}
	if !info.Mode().IsRegular() {
		return secret.String{}, errs.E(errs.Invalid, "%s: %s is not a file", key, file)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.String{}, errs.E(errs.Invalid, "%s: others may read or write %s (mode %04o); run: chmod 600 %s", key, file, info.Mode().Perm(), file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return secret.String{}, fmt.Errorf("%s: %w", key, err)
	}
	if len(b) == 0 || len(b) > maxSecretFile {
		return secret.String{}, errs.E(errs.Invalid, "%s: %s must have 1 to %d bytes", key, file, maxSecretFile)
	}
	return secret.New(strings.TrimSpace(string(b))), nil
}
