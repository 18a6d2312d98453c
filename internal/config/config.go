// Package config is the configuration file: one struct, its defaults and its
// checks.
//
// Every key has a default, so that no file is needed and an older file keeps
// working. An unknown key is an error, and Validate reports all mistakes at
// once. No key turns security off.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keepmq/keepmq/internal/quota"
)

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// A Config is everything an operator can set.
type Config struct {
	// Data is the folder that holds all state. It is made if it is not there.
	Data string `yaml:"data"`
	// Domain is the installation's DNS name. Clients reach an organisation as
	// {org}.messaging.{domain}, or any organisation by every other name.
	Domain string `yaml:"domain"`
	// Names are further host names and addresses that the server certificate
	// carries, beside those of this machine.
	Names []string `yaml:"names"`

	// CountryDatabase is a file in the MaxMind format, for network rules that name
	// countries. Without one, such rules cannot be made.
	CountryDatabase string `yaml:"country_database"`

	Store Store `yaml:"store"`

	MQTT MQTT `yaml:"mqtt"`
	// Limits are what every client, device type and organisation may use, unless
	// something else is set for an organisation or a device type.
	Limits quota.Limits `yaml:"limits"`

	TLS   TLS   `yaml:"tls"`
	HTTPS HTTPS `yaml:"https"`
	Log   Log   `yaml:"log"`
	Audit Audit `yaml:"audit"`
	Edge  Edge  `yaml:"edge"`

	Alerts Alerts `yaml:"alerts"`
	SignIn SignIn `yaml:"sign_in"`
}

// The stores that there are.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Store says where the state is kept that is not messages: organisations,
// devices, people, certificates and the audit record.
type Store struct {
	Driver       string `yaml:"driver"`         // sqlite, in the data folder, or postgres
	DSNFile      string `yaml:"dsn_file"`       // a file that only its owner can read, with the URL of the PostgreSQL database
	OwnerDSNFile string `yaml:"owner_dsn_file"` // the same for the role that makes the schema; empty: it is up to date
}

// MQTT configures the messaging port: MQTT, WebSocket and HTTPS messaging over TLS.
type MQTT struct {
	Listen           string        `yaml:"listen"`             // address:port
	MaxConnections   int           `yaml:"max_connections"`    // open at one time; 0: as many as the system's file limit has room for
	ConnectTimeout   time.Duration `yaml:"connect_timeout"`    // how long a client may take, in all, until CONNECT has come
	QueueTimeout     time.Duration `yaml:"queue_timeout"`      // how long a new connection may wait for its turn
	MaxHandshakes    int           `yaml:"max_handshakes"`     // connections with TLS and without CONNECT at one time; more wait
	MaxKeepAlive     time.Duration `yaml:"max_keep_alive"`     // longer ones are shortened for version 5; 0: no bound
	MaxSessionExpiry time.Duration `yaml:"max_session_expiry"` // of a session without a connection
	Address          Address       `yaml:"address"`
}

// Address bounds what one address may have: an IPv4 address, or an IPv6 network
// (/64). Nothing here turns a bound off.
type Address struct {
	MaxConnections int `yaml:"max_connections"` // open at one time; more are closed before TLS; 0: three quarters of all
	MaxPending     int `yaml:"max_pending"`     // of them, not authenticated yet; more are closed before TLS; 0: three quarters of all
	Rate           int `yaml:"rate"`            // TLS handshakes per second; more wait; one that fails counts up to ten
	Burst          int `yaml:"burst"`           // handshakes at once
	FailureRate    int `yaml:"failure_rate"`    // refused credentials per second; further attempts wait, up to 5 s, then they are refused unchecked
	FailureBurst   int `yaml:"failure_burst"`   // refused credentials at once
}

// HTTPS configures the port of the console and the API.
type HTTPS struct {
	Listen string `yaml:"listen"` // address:port
}

// Log configures the log on standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`  // debug, info, warn, error
	Format string     `yaml:"format"` // text or json
}

// Audit configures the record of every change.
type Audit struct {
	// KeepDays is for how many days the texts of records are kept; their hashes
	// stay, so that the rest can be verified as before. 0: for ever. What
	// "keepmq audit retention" sets goes before it.
	KeepDays int `yaml:"keep_days"`
}

// Edge configures the edge agent that reads this machine's own sensors.
type Edge struct {
	Enabled  bool          `yaml:"enabled"`
	Interval time.Duration `yaml:"interval"` // between two readings of a sensor
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Data:   "data",
		Domain: "localhost",
		Store:  Store{Driver: SQLite},
		MQTT: MQTT{
			Listen:           ":8883",
			ConnectTimeout:   10 * time.Second,
			QueueTimeout:     30 * time.Second,
			MaxHandshakes:    1024,
			Address:          Address{Rate: 1000, Burst: 10_000, FailureRate: 10, FailureBurst: 1000},
			MaxSessionExpiry: 30 * 24 * time.Hour,
		},
		Limits: quota.Defaults(),
		HTTPS:  HTTPS{Listen: ":8443"},
		Log:    Log{Level: slog.LevelInfo, Format: "text"},
		Edge:   Edge{Interval: 2 * time.Second},
		Alerts: Alerts{Mail: Mail{TLS: "starttls"}},
	}
}

// Describe returns the file of the default configuration.
func Describe() string {
	b, err := yaml.Marshal(Default())
	if err != nil {
		panic(err) // a struct of plain fields always marshals
	}
	return string(b)
}

// Load returns the default configuration, overlaid by the file if its name is
// not empty. It does not validate.
func Load(file string) (Config, error) {
	c := Default()
	if file == "" {
		return c, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return c, fmt.Errorf("configuration %s: %w", file, err)
	}
	if len(b) > maxFile {
		return c, fmt.Errorf("configuration %s: larger than %d bytes", file, maxFile)
	}
	if err := c.parse(b); err != nil {
		return c, fmt.Errorf("configuration %s: %w", file, err)
	}
	return c, nil
}

// parse overlays c with a YAML document.
func (c *Config) parse(b []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	err := d.Decode(c)
	if errors.Is(err, io.EOF) { // an empty file
		return nil
	}
	if te := new(yaml.TypeError); errors.As(err, &te) {
		var bad []error
		for _, line := range te.Errors {
			bad = append(bad, errors.New(unknownKey(line)))
		}
		return errors.Join(bad...)
	}
	if err == nil && d.Decode(new(any)) != io.EOF {
		return errors.New("more than one YAML document")
	}
	return err
}

// unknownKey puts the library's message about an unknown key into the operator's words.
func unknownKey(msg string) string {
	if before, _, ok := strings.Cut(msg, " not found in type "); ok {
		return strings.Replace(before, ": field ", ": unknown key ", 1)
	}
	return msg
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	var bad []error
	fail := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	between := func(key string, n, low, high int64) {
		if n < low || n > high {
			fail("%s: %d is not within %d and %d", key, n, low, high)
		}
	}
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			fail("%s: %v is not within %v and %v", key, d, low, high)
		}
	}
	if c.Data == "" {
		fail("data: must name a folder")
	}
	if !hostName(c.Domain) {
		fail("domain: %q is not a host name", c.Domain)
	}
	for i, n := range c.Names {
		if net.ParseIP(n) == nil && !hostName(strings.TrimPrefix(n, "*.")) {
			fail("names[%d]: %q is neither a host name nor an address", i, n)
		}
	}
	switch c.Store.Driver {
	case SQLite:
		if c.Store.DSNFile != "" || c.Store.OwnerDSNFile != "" {
			fail("store.dsn_file: is for driver %s, and store.driver is %s", Postgres, SQLite)
		}
	case Postgres:
		if c.Store.DSNFile == "" {
			fail("store.dsn_file: must name the file with the URL of the database")
		}
	default:
		fail("store.driver: %q is neither %s nor %s", c.Store.Driver, SQLite, Postgres)
	}
	for key, a := range map[string]string{"mqtt.listen": c.MQTT.Listen, "https.listen": c.HTTPS.Listen} {
		if err := address(a); err != nil {
			fail("%s: %w", key, err)
		}
	}
	if c.MQTT.Listen == c.HTTPS.Listen && !strings.HasSuffix(c.MQTT.Listen, ":0") {
		fail("https.listen: %s is already mqtt.listen", c.HTTPS.Listen)
	}
	between("mqtt.max_connections", int64(c.MQTT.MaxConnections), 0, 10_000_000)
	for _, l := range quota.All() {
		least, most := l.Range()
		between("limits."+l.String(), c.Limits.Get(l), least, most)
	}
	a := c.MQTT.Address
	for key, n := range map[string]int{"max_connections": a.MaxConnections, "max_pending": a.MaxPending} {
		between("mqtt.address."+key, int64(n), 0, 10_000_000)
	}
	for key, n := range map[string]int{"rate": a.Rate, "burst": a.Burst, "failure_rate": a.FailureRate, "failure_burst": a.FailureBurst} {
		between("mqtt.address."+key, int64(n), 1, 1_000_000)
	}
	between("mqtt.max_handshakes", int64(c.MQTT.MaxHandshakes), 16, 1_000_000)
	within("mqtt.queue_timeout", c.MQTT.QueueTimeout, time.Second, 5*time.Minute)
	within("mqtt.connect_timeout", c.MQTT.ConnectTimeout, time.Second, 5*time.Minute)
	within("mqtt.max_keep_alive", c.MQTT.MaxKeepAlive, 0, 65535*time.Second)
	within("mqtt.max_session_expiry", c.MQTT.MaxSessionExpiry, 0, 10*365*24*time.Hour)
	within("edge.interval", c.Edge.Interval, 100*time.Millisecond, 24*time.Hour)
	c.Alerts.validate(fail)
	c.TLS.validate(fail)
	c.SignIn.validate(fail)
	if c.Audit.KeepDays != 0 {
		between("audit.keep_days", int64(c.Audit.KeepDays), 30, 36500)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		fail("log.format: %q is neither text nor json", c.Log.Format)
	}
	slices.SortFunc(bad, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(bad...)
}

// address checks a listening address: "host:port", the host an address or empty.
func address(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not address:port, for example 0.0.0.0:8883 or :8883", s)
	}
	if host != "" && host != "localhost" && net.ParseIP(strings.Split(host, "%")[0]) == nil {
		return fmt.Errorf("%q: %s is not an address of this machine", s, host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q: the port must be a number up to 65535", s)
	}
	return nil
}

// hostName reports whether s is a host name (RFC 1123 §2.1).
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
