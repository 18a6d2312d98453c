//go:build unix

package edge

import (
	"fmt"
	"os"
	"syscall"
)

// anyMode is true where files have no permissions to check.
const anyMode = false

// lock keeps a second agent out of the folder. The system ends it with the
// process, however that ends.
func (f *folder) lock() (*os.File, error) {
	h, err := f.root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(h.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		h.Close() //nolint:errcheck // nothing was written
		return nil, &Problem{"another agent works in this folder", "stop it, or give this one a folder of its own with --dir", fmt.Errorf("lock: %w", err)}
	}
	return h, nil
}
