package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A saved is what login keeps for the commands after it.
type saved struct {
	Version int    `json:"version"`
	Server  string `json:"server"`          // as https://host:port
	Broker  string `json:"broker"`          // as host:port
	CA      string `json:"ca,omitempty"`    // PEM; empty: the system's authorities
	Token   string `json:"token"`           // the file is readable by its owner only
	Person  string `json:"person"`          // for people
	Org     string `json:"org,omitempty"`   // the default organisation
	Audit   string `json:"audit,omitempty"` // the key that signs the audit record, kept from the sign-in on
}

const savedVersion = 1

// folder is where the command keeps what it saves.
func (e *env) folder() (string, error) {
	if dir := e.getenv("KEEPMQ_CONFIG_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", hint("set KEEPMQ_CONFIG_DIR to a folder", "find the folder for settings: %w", err)
	}
	return filepath.Join(dir, "keepmq"), nil
}

// load returns what was saved; nothing was is fs.ErrNotExist.
func (e *env) load() (saved, error) {
	dir, err := e.folder()
	if err != nil {
		return saved{}, err
	}
	name := filepath.Join(dir, "login.json")
	info, err := os.Stat(name)
	if err != nil {
		return saved{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return saved{}, hint("run: chmod 600 "+name, "%s may be read by others, who could act as you", name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return saved{}, err
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil || s.Version != savedVersion {
		return saved{}, hint("delete it, then "+signInAgain, "%s is damaged or from another version", name)
	}
	return s, nil
}

// save replaces what was saved, at once or not at all.
func (e *env) save(s saved) error {
	dir, err := e.folder()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	s.Version = savedVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode sign-in: %w", err)
	}
	f, err := os.CreateTemp(dir, ".login-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, "login.json"))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("save sign-in: %w", err)
	}
	return nil
}

// forget removes what was saved.
func (e *env) forget() error {
	dir, err := e.folder()
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "login.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove sign-in: %w", err)
	}
	return nil
}
