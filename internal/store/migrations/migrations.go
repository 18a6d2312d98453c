// Package migrations holds the schema of the control plane, step by step, in
// SQL that SQLite and PostgreSQL both understand. A step that was released is
// never changed; the next one is added.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed *.sql
var files embed.FS

// Files returns the steps, named by their number.
func Files() fs.FS { return files }
