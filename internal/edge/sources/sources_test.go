package sources

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"
)

// TestHost reads this machine's sensors twice and checks that what they say
// can be true.
func TestHost(t *testing.T) {
	all := Host()
	got := map[string]map[string]any{}
	deadline := time.Now().Add(5 * time.Second)
	for len(got) < len(all) && time.Now().Before(deadline) {
		for _, s := range all {
			if got[s.Name] != nil {
				continue
			}
			fields, err := s.Read(context.Background())
			switch {
			case errors.Is(err, ErrAbsent):
				got[s.Name] = map[string]any{}
			case err == nil:
				got[s.Name] = fields
			case !errors.Is(err, ErrLater):
				t.Fatalf("%s: %v", s.Name, err)
			}
		}
	}
	for _, s := range all {
		if got[s.Name] == nil {
			t.Errorf("%s has no reading", s.Name)
		}
		if !regexp.MustCompile(`^[a-z]+$`).MatchString(s.Name) {
			t.Errorf("%q cannot be a level of a topic", s.Name)
		}
		if _, err := json.Marshal(got[s.Name]); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	between := func(source, field string, least, most float64) {
		t.Helper()
		b, _ := json.Marshal(got[source][field])
		var v float64
		if err := json.Unmarshal(b, &v); err != nil || v < least || v > most {
			t.Errorf("%s %s is %s, want %v..%v", source, field, b, least, most)
		}
	}
	const huge = 1 << 60
	between("cpu", "percent", 0, 100)
	between("cpu", "user", 0, 100)
	between("memory", "percent", 0.01, 100)
	between("memory", "used_bytes", 1<<20, huge)
	between("memory", "total_bytes", 16<<20, huge)
	between("disk", "percent", 0, 100)
	between("disk", "total_bytes", 1<<20, huge)
	if runtime.GOOS != "windows" {
		between("load", "load1", 0, 10000)
	}
	for _, optional := range []struct{ source, field string }{
		{"network", "received_bytes_per_second"}, {"network", "sent_bytes_per_second"}, {"diskio", "write_bytes_per_second"},
	} {
		if len(got[optional.source]) > 0 {
			between(optional.source, optional.field, 0, 1e12)
		}
	}
	if len(got["temperature"]) > 0 {
		between("temperature", "max_celsius", -100, 200)
	}
}

// TestCPUBusy: while this test burns a processor, the use is not nothing.
func TestCPUBusy(t *testing.T) {
	read := cpuUse()
	if _, err := read(context.Background()); !errors.Is(err, ErrLater) {
		t.Fatalf("first reading: %v", err)
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
	}
	got, err := read(context.Background())
	if err != nil || got["percent"].(float64) <= 0 {
		t.Errorf("got %v %v", got, err)
	}
}

// TestTemperatures reads sensors as Linux shows them, from a folder.
func TestTemperatures(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	dir := t.TempDir()
	t.Setenv("HOST_SYS", dir)
	if _, err := temperatures(context.Background()); !errors.Is(err, ErrAbsent) {
		t.Errorf("no sensor: %v", err)
	}
	for name, content := range map[string]string{
		"hwmon0/name": "coretemp\n", "hwmon0/temp1_input": "41500\n", "hwmon0/temp1_label": "Core 0\n",
		"hwmon0/temp2_input": "48250\n", "hwmon0/temp2_label": "Core 1\n",
		"hwmon1/name": "broken\n", "hwmon1/temp1_input": "nonsense\n",
	} {
		name = filepath.Join(dir, "class/hwmon", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := temperatures(context.Background())
	if err != nil || got["max_celsius"] != 48.25 || got["celsius_coretemp_core_0"] != 41.5 || len(got) != 3 {
		t.Errorf("got %v %v", got, err)
	}
}

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	r := &rate{now: func() time.Time { return now }}
	if _, err := r.per(map[string]uint64{"a": 100, "b": 50}); !errors.Is(err, ErrLater) {
		t.Errorf("first: %v", err)
	}
	if _, err := r.per(map[string]uint64{"a": 100, "b": 50}); !errors.Is(err, ErrLater) {
		t.Errorf("no time has passed: %v", err)
	}
	now = now.Add(2 * time.Second)
	got, err := r.per(map[string]uint64{"a": 110, "b": 10, "c": 7})
	if err != nil || len(got) != 1 || got["a"] != 5 {
		t.Errorf("got %v %v, want a: 5 alone, for b was set back and c is new", got, err)
	}
}

func TestWholeDisk(t *testing.T) {
	for name, want := range map[string]bool{
		"sda": true, "sda1": false, "nvme0n1": true, "nvme0n1p2": false, "mmcblk0": true, "mmcblk0p1": false,
		"loop3": false, "dm-0": false, "vda": true, "vda15": false, "disk0": true,
	} {
		if wholeDisk(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
