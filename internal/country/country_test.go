package country

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The types of the MaxMind format that are needed here, as control bytes have them.
const (
	typeText  = 2 << 5
	typeInt16 = 5 << 5
	typeInt32 = 6 << 5
	typeMap   = 7 << 5
)

func text(s string) []byte { return append([]byte{typeText | byte(len(s))}, s...) }

func int16s(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{typeInt16 | 2}, n) }

func pairs(kv ...[]byte) []byte {
	return append([]byte{typeMap | byte(len(kv)/2)}, bytes.Join(kv, nil)...)
}

// write makes a database file that knows these networks, of IPv6 with IPv4 in it,
// as the format is described by its makers (version 2.0).
func write(t *testing.T, record func(code string) []byte, networks map[string]string) string {
	t.Helper()
	type node [2]int // positive: a node; negative: -1 - offset in the data; 0: nothing
	nodes := []node{{}}
	var data []byte
	for network, code := range networks {
		p := netip.MustParsePrefix(network)
		raw, bits := p.Addr().As16(), p.Bits()
		if p.Addr().Is4() {
			raw, bits = [16]byte{}, bits+96
			four := p.Addr().As4()
			copy(raw[12:], four[:])
		}
		at := 0
		for i := range bits {
			bit := raw[i/8] >> (7 - i%8) & 1
			if i == bits-1 {
				nodes[at][bit] = -1 - len(data)
				break
			}
			if nodes[at][bit] == 0 {
				nodes = append(nodes, node{})
				nodes[at][bit] = len(nodes) - 1
			}
			at = nodes[at][bit]
		}
		data = append(data, record(code)...)
	}
	var out []byte
	for _, n := range nodes {
		for _, v := range n {
			switch {
			case v == 0:
				v = len(nodes)
			case v < 0:
				v = len(nodes) + 16 - 1 - v
			}
			out = append(out, byte(v>>16), byte(v>>8), byte(v))
		}
	}
	out = append(append(out, make([]byte, 16)...), data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	out = append(out, pairs(
		text("binary_format_major_version"), int16s(2), text("binary_format_minor_version"), int16s(0),
		text("build_epoch"), []byte{1, 2, 1}, text("database_type"), text("Test"), text("description"), pairs(),
		text("ip_version"), int16s(6), text("languages"), []byte{0, 4},
		text("node_count"), binary.BigEndian.AppendUint32([]byte{typeInt32 | 4}, uint32(len(nodes))), text("record_size"), int16s(24),
	)...)
	file := filepath.Join(t.TempDir(), "test.mmdb")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func country(code string) []byte { return pairs(text("country"), pairs(text("iso_code"), text(code))) }

func TestCountries(t *testing.T) {
	d, err := Open(write(t, country, map[string]string{"192.0.2.0/24": "SE", "198.51.100.0/25": "NO", "2001:db8::/32": "FI"}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	for address, want := range map[string]string{
		"192.0.2.1": "SE", "192.0.2.255": "SE", "192.0.3.0": "", "198.51.100.127": "NO", "198.51.100.128": "",
		"2001:db8::1": "FI", "2001:db9::1": "", "::ffff:192.0.2.1": "SE", "127.0.0.1": "",
	} {
		if got, err := d.Of(netip.MustParseAddr(address)); got != want || err != nil {
			t.Errorf("%s is in %q (%v), want %q", address, got, err, want)
		}
	}
}

func TestNotACountryDatabase(t *testing.T) {
	other := write(t, func(code string) []byte { return pairs(text("city"), text(code)) }, map[string]string{"192.0.2.0/24": "Uppsala"})
	broken := filepath.Join(t.TempDir(), "broken.mmdb")
	if err := os.WriteFile(broken, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{other, broken, filepath.Join(t.TempDir(), "missing.mmdb")} {
		if d, err := Open(file); err == nil || d != nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
