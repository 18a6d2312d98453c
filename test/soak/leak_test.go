package soak

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// usage is what a server holds when nobody is connected.
type usage struct {
	files    int
	sockets  int
	resident int64 // bytes
}

func (w *world) measure() usage {
	w.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", w.s.PID())
	names, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	u := usage{files: len(names)}
	for _, n := range names {
		if to, err := os.Readlink(dir + "/" + n.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			u.sockets++
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.s.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		w.t.Fatal(err)
	}
	u.resident = pages * int64(os.Getpagesize())
	return u
}

// settle waits until no more sockets are open than before, and measures.
func (w *world) settle(before usage) usage {
	u := w.measure()
	for end := time.Now().Add(time.Minute); u.sockets > before.sockets && time.Now().Before(end); u = w.measure() {
		t := time.NewTimer(100 * time.Millisecond)
		<-t.C
	}
	return u
}

// judge reports what stayed when everybody had gone. Memory may grow once: what
// the first cycle needed is kept for the next.
func (w *world) judge(before usage, after []usage) {
	for i, u := range after {
		w.t.Logf("after cycle %d: %d files (%d sockets), %d MiB; before: %d files (%d sockets), %d MiB",
			i, u.files, u.sockets, u.resident>>20, before.files, before.sockets, before.resident>>20)
		if u.sockets > before.sockets {
			w.t.Errorf("%d sockets are still open, %d were before", u.sockets, before.sockets)
		}
		if u.files > before.files+20 { // the message store opens and closes some of its own
			w.t.Errorf("%d files are still open, %d were before", u.files, before.files)
		}
	}
	if n := len(after); n > 1 {
		first, last := after[0].resident, after[n-1].resident
		if last > first+first/4+32<<20 {
			w.t.Errorf("memory grew from %d to %d MiB from the first cycle to the last", first>>20, last>>20)
		}
	}
	idle := start(w.t)
	idle.SignIn() // both ports are served from here on
	nc, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(idle.MQTTPort)), idle.TLS())
	if err != nil {
		w.t.Fatal(err)
	}
	nc.Close()
	fresh, used := w.goroutines(idle), w.goroutines(w.s)
	for where, n := range used {
		if n > fresh[where]+2 {
			w.t.Errorf("%d goroutines are left in %s, a fresh server has %d", n, where, fresh[where])
		}
	}
}

var function = regexp.MustCompile(`(?m)^created by (\S+)`)

// goroutines ends a server with a dump of its stacks, and counts them by the
// function that started them.
func (w *world) goroutines(s *server.Server) map[string]int {
	w.t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGQUIT); err != nil {
		w.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(s.Log(), "\nrip ") && !strings.Contains(s.Log(), "\npc ") && time.Now().Before(end); {
		t := time.NewTimer(50 * time.Millisecond)
		<-t.C
	}
	s.Kill()
	dump := s.Log()
	found := map[string]int{}
	for _, m := range function.FindAllStringSubmatch(dump, -1) {
		found[m[1]]++
	}
	if len(found) == 0 {
		w.t.Errorf("no goroutine is to be seen in what the server wrote:\n%.2000s", dump)
	}
	var all []string
	for where, n := range found {
		all = append(all, fmt.Sprintf("%d %s", n, where))
	}
	sort.Strings(all)
	w.t.Logf("goroutines: %s", strings.Join(all, ", "))
	return found
}
