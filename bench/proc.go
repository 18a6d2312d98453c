package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on
// every architecture of Linux that Go runs on.
const tick = 10 * time.Millisecond

// usage is what the operating system has charged to one process.
type usage struct {
	User, System time.Duration
	Resident     int64 // bytes
	Threads      int
	MinorFaults  int64
}

// cpu is all the processor time used.
func (u usage) cpu() time.Duration { return u.User + u.System }

// readUsage asks the operating system about a process.
func readUsage(pid int) (usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("read processor time: %w", err)
	}
	u, err := parseStat(b)
	if err != nil {
		return u, err
	}
	if b, err = os.ReadFile(dir + "/smaps_rollup"); err != nil {
		return u, fmt.Errorf("read memory: %w", err)
	}
	u.Resident, err = parseRollup(b)
	return u, err
}

// parseStat reads /proc/PID/stat. The command in the second field may hold
// spaces and parentheses, so counting starts after its end.
func parseStat(b []byte) (usage, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return usage{}, fmt.Errorf("stat: no command in %q", b)
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is field 3 of proc(5)
	if len(f) < 18 {
		return usage{}, fmt.Errorf("stat: %d fields after the command, want 18 or more", len(f))
	}
	var n [18]int64
	for _, i := range []int{7, 11, 12, 17} {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("stat: field %d: %w", i+3, err)
		}
		n[i] = v
	}
	return usage{MinorFaults: n[7], User: time.Duration(n[11]) * tick, System: time.Duration(n[12]) * tick, Threads: int(n[17])}, nil
}

// parseRollup reads the resident memory from /proc/PID/smaps_rollup.
func parseRollup(b []byte) (int64, error) {
	kib, err := kibibytes(b, "Rss")
	return kib << 10, err
}

// kibibytes finds "key:  123 kB" in a file of /proc.
func kibibytes(b []byte, key string) (int64, error) {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if name != key {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0, fmt.Errorf("%s: %q is not a number of kB", key, rest)
		}
		return strconv.ParseInt(f[0], 10, 64)
	}
	return 0, fmt.Errorf("no line %s", key)
}
