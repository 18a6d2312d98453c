package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"modernc.org/sqlite"

	"github.com/keepmq/keepmq/internal/errs"
)

// Primary result codes of SQLite (https://www.sqlite.org/rescode.html); the
// extended codes have them in their low byte.
const (
	codeError    = 1
	codeBusy     = 5
	codeLocked   = 6
	codeReadOnly = 8
	codeIO       = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotDB    = 26
)

func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// explain says what the person who runs KeepMQ can do about an error that is not
// a matter of the statement. Everything else is returned as it is. The message
// may reach any caller, so the path is in the cause only.
func explain(path string, err error) error {
	c := code(err)
	msg, ok := advice[c]
	if !ok {
		return err
	}
	return errs.Wrap(errs.Unavailable, fmt.Errorf("%s: %w", path, err), msg)
}

const fullDisk = "the disk with the database is full; nothing was changed; free some space"

var advice = map[int]string{
	codeFull:     fullDisk,
	codeReadOnly: "the database cannot be written; make the data folder and its files writable for the user that runs KeepMQ",
	codeCantOpen: "the database cannot be opened; check that the data folder exists and is writable for the user that runs KeepMQ",
	codeCorrupt:  "the database is damaged; stop KeepMQ and restore a backup",
	codeNotDB:    "the database is damaged; stop KeepMQ and restore a backup",
	codeIO:       "the disk with the database does not work; check it and its file system",
	codeBusy:     "the database is in use by another process; stop that one or try again",
	codeLocked:   "the database is in use by another process; stop that one or try again",
}

func busy(err error) bool { c := code(err); return c == codeBusy || c == codeLocked }

// tableExists reports whether a statement would have made what is there already:
// two processes make the table of versions before there is a version to compare.
func tableExists(err error) bool {
	return code(err) == codeError && strings.Contains(err.Error(), "already exists")
}

func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
