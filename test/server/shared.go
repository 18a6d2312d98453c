package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// T is what a server needs of the test that it runs for.
type T interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// suite is the T of servers that run for all tests of a package.
type suite struct {
	mu       sync.Mutex // guards the fields below
	failed   bool
	cleanups []func()
}

var shared suite

// Shared starts a server in a folder of its own that ends when all tests of the
// package have ended: its TestMain must call Main. A server that panics fails
// the package, and only then its log is printed.
func Shared(args ...string) *Server {
	dir, err := os.MkdirTemp("", "keepmq-shared-")
	if err != nil {
		panic(err)
	}
	shared.Cleanup(func() { os.RemoveAll(dir) })
	s := Start(&shared, filepath.Join(dir, "data"), args...)
	shared.Cleanup(func() {
		if log := s.Log(); strings.Contains(log, "panic:") || strings.Contains(log, "goroutine ") {
			shared.Errorf("the server panicked")
		}
	})
	return s
}

// end runs the cleanups and returns the exit code of the package.
func (s *suite) end(code int) int {
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			break
		}
		f := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		f()
	}
	if s.Failed() {
		return max(code, 1)
	}
	return code
}

func (s *suite) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = true
}

// Helper implements T.
func (s *suite) Helper() {}

// Cleanup implements T.
func (s *suite) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// Failed implements T.
func (s *suite) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Logf implements T.
func (s *suite) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Errorf implements T.
func (s *suite) Errorf(format string, args ...any) {
	s.fail()
	s.Logf(format, args...)
}

// Fatal implements T. The test that called for the server ends with the panic.
func (s *suite) Fatal(args ...any) {
	s.fail()
	panic(fmt.Sprint(args...))
}

// Fatalf implements T.
func (s *suite) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

var _ T = testing.TB(nil)
