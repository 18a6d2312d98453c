//go:build !unix

package edge

import (
	"os"
)

// anyMode is true where files have no permissions to check.
const anyMode = true

// lock keeps a second agent out of the folder: where there is no flock, a file
// that is open cannot be removed.
func (f *folder) lock() (*os.File, error) {
	if err := ignoreMissing(f.root.Remove("lock")); err != nil {
		return nil, &Problem{"another agent works in this folder", "stop it, or give this one a folder of its own with --dir", err}
	}
	return f.root.OpenFile("lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
