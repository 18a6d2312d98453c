// Package migrations holds the schema of the control plane, step by step, in
// SQL that SQLite and PostgreSQL both understand, and beside it what only
// PostgreSQL has. A step that was released is never changed; the next one is
// added.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed *.sql
var files embed.FS

//go:embed postgres/*.sql
var extras embed.FS

// Files returns the steps, named by their number.
func Files() fs.FS { return files }

// Postgres returns the steps that only PostgreSQL takes, after all of Files.
func Postgres() fs.FS {
	sub, err := fs.Sub(extras, "postgres")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}
