package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keepmq/keepmq/internal/errs"
)

const (
	masterName   = "master.key"
	masterFormat = "keepmq master key 1"
	masterLimit  = 64 << 10
)

// masterFile is the text of the file: a Tink keyset of AES-256-GCM keys, so that
// a later key can stand beside the one that wrapped what is there.
type masterFile struct {
	Format string          `json:"format"`
	Keyset json.RawMessage `json:"keyset"`
}

// openMaster reads the master key in dir. If there is none it makes one, where
// that is allowed.
func openMaster(dir string, mayCreate bool) (tink.AEAD, error) {
	path := filepath.Join(dir, masterName)
	a, err := readMaster(path)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		removeLeftovers(dir)
		if mayCreate { // a start that was cut short may not have got as far
			err = syncDir(dir)
		}
		return a, err
	}
	if !mayCreate {
		return nil, errs.Wrap(errs.Unavailable, err, "the master key is missing, and the data was sealed with it; put back "+path+" from your copy (a new key could not open the data)")
	}
	if err := createMaster(dir); err != nil {
		return nil, err
	}
	return readMaster(path)
}

func readMaster(path string) (tink.AEAD, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, errs.Wrap(errs.Unavailable, err, "the master key "+path+" cannot be read by the user that runs KeepMQ; make that user its owner")
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errs.E(errs.Unavailable, "the master key %s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, errs.E(errs.Unavailable, "the master key %s is open to other users (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, masterLimit+1))
	if err != nil {
		return nil, err
	}
	a, err := parseMaster(text)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the master key "+path+" is damaged; put it back from your copy")
	}
	return a, nil
}

func parseMaster(text []byte) (tink.AEAD, error) {
	if len(text) > masterLimit {
		return nil, errors.New("too long")
	}
	var m masterFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, errors.New("not a master key file") // the cause could quote the key
	}
	if m.Format != masterFormat {
		return nil, fmt.Errorf("format is not %q", masterFormat)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(m.Keyset)))
	if err != nil {
		return nil, errors.New("not a keyset")
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, errors.New("keyset is not for authenticated encryption")
	}
	return a, nil
}

// createMaster makes the file whole or not at all: it is written and synced
// under another name and then linked, which never replaces a file. If another
// process was faster, its key is the key.
func createMaster(dir string) error {
	text, err := newMaster()
	if err != nil {
		return fmt.Errorf("make master key: %w", err)
	}
	defer clear(text)
	tmp := filepath.Join(dir, leftover+rand.Text())
	if err := writeSynced(tmp, text); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the master key could not be written to "+dir+"; check that the folder exists, is writable and has space")
	}
	err = os.Link(tmp, filepath.Join(dir, masterName))
	_ = os.Remove(tmp) // otherwise the next start does
	if err != nil && !exists(filepath.Join(dir, masterName)) {
		return errs.Wrap(errs.Unavailable, err, "the master key could not be put into "+dir)
	}
	// Commit point: only now may something be wrapped with it.
	return syncDir(dir)
}

func newMaster() ([]byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	var ks bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&ks)); err != nil {
		return nil, err
	}
	text, err := json.Marshal(masterFile{Format: masterFormat, Keyset: ks.Bytes()})
	return append(text, '\n'), err
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

const leftover = masterName + ".new-"

// removeLeftovers removes keys that a crash kept from becoming the master key.
// Nothing was ever wrapped with them.
func removeLeftovers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), leftover) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
