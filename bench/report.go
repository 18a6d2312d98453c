package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A Report is what a run is written down as.
type Report struct {
	Time    time.Time
	Seconds float64 // the whole run
	Rounds  int
	Round   string // the length of one
	Machine Machine
	Peers   []About
	Rows    []Result
}

// A Machine is where a run was made. It names no host.
type Machine struct {
	System    string
	Kernel    string
	Processor string
	Cores     int
	MemoryMiB int64
	Go        string
	Load      string // how many processes wanted to run in the minute before
}

// About is a peer in words.
type About struct{ Name, About string }

func newReport(ctx context.Context, b *bench) *Report {
	r := &Report{Time: time.Now().UTC().Truncate(time.Second), Rounds: b.rounds, Round: b.seconds.String(), Machine: thisMachine()}
	for _, p := range b.peers {
		r.Peers = append(r.Peers, About{p.Name(), p.About(ctx)})
	}
	return r
}

func thisMachine() Machine {
	m := Machine{System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		var name strings.Builder
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			name.WriteByte(byte(c))
		}
		m.Kernel = name.String()
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := kibibytes(b, "MemTotal") // zero shows that it is not known
		m.MemoryMiB = kib >> 10
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Processor = processor(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(b), " ")
	}
	return m
}

// processor finds who made the first processor and which it is.
func processor(cpuinfo string) string {
	var out []string
	for _, key := range []string{"vendor_id", "cpu family", "model", "model name"} {
		for line := range strings.Lines(cpuinfo) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				out = append(out, key+" "+strings.TrimSpace(v))
				break
			}
		}
	}
	return strings.Join(out, ", ")
}

// write prints the table and keeps the numbers as JSON. It fails if a row did.
func (r *Report) write(b *bench) error {
	if len(r.Rows) == 0 {
		return nil
	}
	m := r.Machine
	fmt.Fprintf(b.stdout, "%s, %d cores (%s), %d MiB, Linux %s, %s; load average before the run %s; %d rounds of %s, %.0f s in all\n",
		m.System, m.Cores, m.Processor, m.MemoryMiB, m.Kernel, m.Go, m.Load, r.Rounds, r.Round, r.Seconds)
	var names []string
	for _, p := range r.Peers {
		names = append(names, p.Name)
		fmt.Fprintf(b.stdout, "- %s: %s\n", p.Name, p.About)
	}
	fmt.Fprintln(b.stdout)
	if err := writeTable(b.stdout, names, r.Rows); err != nil {
		return err
	}
	if err := writeGrowth(b.stdout, r.Rows); err != nil {
		return err
	}
	var bad error
	for _, row := range r.Rows {
		for _, n := range row.Notes {
			fmt.Fprintf(b.stdout, "\n%s: %s\n", row.Title, n)
		}
		if row.Failed {
			bad = errors.Join(bad, fmt.Errorf("%s: a peer failed or lost messages", row.Name))
		}
	}
	return errors.Join(bad, r.save(b.out))
}

// save writes the report into a file named after its time.
func (r *Report) save(dir string) error {
	body, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	file := filepath.Join(dir, r.Time.Format("20060102T150405Z")+".json")
	if err := os.WriteFile(file, append(body, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
