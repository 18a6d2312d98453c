package edge

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	settingsFile    = "settings.json"
	settingsVersion = 1
	maxSettings     = 1 << 20
)

// settings are what the folder remembers, so that later starts need no flags.
type settings struct {
	Version int    `json:"version"`
	Server  string `json:"server"`
	Broker  string `json:"broker"`
	CA      string `json:"ca"`                  // PEM
	Client  string `json:"client_id,omitempty"` // whose folder this is
}

func loadSettings(d disk) (settings, error) {
	b, err := readFile(d, settingsFile, maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("read settings: %w", err)
	}
	var s settings
	if err := json.Unmarshal(b, &s); err != nil {
		return s, &Problem{"the file " + settingsFile + " in the agent's folder is damaged", "remove it and give --server, --broker and --ca again", err}
	}
	if s.Version != settingsVersion {
		return s, &Problem{fmt.Sprintf("the agent's folder is of version %d, which this program does not know", s.Version), "use a newer keepmq", nil}
	}
	return s, nil
}

func (s settings) save(d disk) error {
	s.Version = settingsVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	if err := writeAtomic(d, settingsFile, append(b, '\n')); err != nil {
		return fmt.Errorf("keep settings: %w", err)
	}
	return nil
}

// with returns s with what the configuration says instead.
func (s settings) with(c Config) settings {
	if c.Server != "" {
		s.Server = c.Server
	}
	if c.Broker != "" {
		s.Broker = c.Broker
	}
	if len(c.CA) > 0 {
		s.CA = string(c.CA)
	}
	return s
}

// check returns the authorities, and every mistake in the settings.
func (s *settings) check() (*x509.CertPool, error) {
	var bad []error
	u, err := url.Parse(s.Server)
	switch {
	case s.Server == "":
		bad = append(bad, errors.New("the server's address is missing: give it with --server https://host:8443"))
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || !utf8.ValidString(u.Host) || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		bad = append(bad, fmt.Errorf("the server's address %q is not https://host:port", s.Server))
	default:
		s.Server = "https://" + u.Host
		if s.Broker == "" {
			s.Broker = net.JoinHostPort(u.Hostname(), "8883")
		}
	}
	if _, port, err := net.SplitHostPort(s.Broker); s.Broker != "" && (err != nil || port == "") {
		bad = append(bad, fmt.Errorf("the broker's address %q is not host:port", s.Broker))
	}
	roots := x509.NewCertPool()
	switch {
	case s.CA == "":
		bad = append(bad, errors.New("the authority is missing: give the server's CA file with --ca"))
	case !roots.AppendCertsFromPEM([]byte(s.CA)):
		bad = append(bad, errors.New("there is no certificate in the CA file"))
	}
	return roots, errors.Join(bad...)
}
