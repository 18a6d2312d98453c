// Package server runs the real program for tests of the whole product: it
// builds keepmq once, starts it in a folder on ports of its own, and ends it,
// gracefully or not.
package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// StartTime is how long a start may take on a busy machine.
const StartTime = time.Minute

// A Server is a keepmq that runs. Welcome is what it printed when it was ready;
// the secrets in it are there after the first start in a folder only.
type Server struct {
	Welcome
	Dir string

	t      T
	cmd    *exec.Cmd
	stderr *lockedBuffer
	done   chan error
}

// Welcome is what keepmq serve --json prints.
type Welcome struct {
	MQTTPort    int    `json:"mqtt_port"`
	HTTPSPort   int    `json:"https_port"`
	CAFile      string `json:"ca_file"`
	ConsoleURL  string `json:"console_url"`
	SignInURL   string `json:"sign_in_url"`
	LoginCode   string `json:"login_code"`
	Org         string `json:"org"`
	Device      struct{ Type, ID, Token string }
	Application struct{ Key, Token string }
}

var asked atomic.Bool // build was called

var build = sync.OnceValues(func() (string, error) {
	asked.Store(true)
	if err := dependOnProduct(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "keepmq-test-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "keepmq")
	cmd := exec.Command("go", "build", "-trimpath", "-o", file, "github.com/keepmq/keepmq/cmd/keepmq")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

// dependOnProduct looks at every file that the program is built from, and at the
// scripts of the tests. The go command notes at which files a test looks, and
// takes its result from the cache only if none has changed; of what a test
// starts it knows nothing.
func dependOnProduct() error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	for _, part := range []string{"go.mod", "cmd", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			_, err = os.Stat(file)
			return err
		})
		if err != nil {
			return fmt.Errorf("look at the program's files: %w", err)
		}
	}
	return nil
}

// Main runs the tests of a package and removes what Program built.
func Main(m *testing.M) {
	code := shared.end(m.Run())
	if asked.Load() {
		if file, err := build(); err == nil {
			os.RemoveAll(filepath.Dir(file))
		}
	}
	os.Exit(code)
}

// Program returns the program's file.
func Program(t T) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Start starts a server in dir, which ends with the test at the latest. More
// arguments for keepmq serve may follow.
func Start(t T, dir string, args ...string) *Server {
	t.Helper()
	s, err := Try(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Try is Start for a server that may not come up. The error holds what it wrote
// to standard error.
func Try(t T, dir string, args ...string) (*Server, error) {
	t.Helper()
	s := &Server{Dir: dir, t: t, stderr: new(lockedBuffer), done: make(chan error, 1)}
	args = append([]string{"serve", "--json", "--data", dir, "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0"}, args...)
	s.cmd = exec.Command(Program(t), args...)
	s.cmd.Stderr = s.stderr
	s.cmd.WaitDelay = 10 * time.Second
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line := make(chan []byte, 1)
	go func() {
		r := bufio.NewReader(stdout)
		b, _ := r.ReadBytes('\n')
		line <- b
		_, _ = io.Copy(io.Discard, r)
		s.done <- s.cmd.Wait()
	}()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the server in %s:\n%s", dir, s.Log())
		}
	})
	select {
	case b := <-line:
		if len(b) == 0 {
			err := s.wait()
			return nil, fmt.Errorf("keepmq serve ended (%w):\n%s", err, s.Log())
		}
		return s, json.Unmarshal(b, &s.Welcome)
	case <-time.After(StartTime):
		return nil, fmt.Errorf("keepmq serve is not ready after %v:\n%s", StartTime, s.Log())
	}
}

// PID returns the process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log returns what the server wrote to standard error so far.
func (s *Server) Log() string { return s.stderr.String() }

// Kill ends the server as a power cut would, and waits for it.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.wait()
}

// Stop asks the server to end and waits for it. It fails the test if the server
// does not end well.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("stop: %v", err)
	}
	timer := time.AfterFunc(StartTime, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	if err := s.wait(); err != nil {
		s.t.Errorf("keepmq serve ended with %v:\n%s", err, s.Log())
	}
}

func (s *Server) wait() error {
	err := <-s.done
	s.done <- err // for the next one who asks
	return err
}

// TLS returns a client configuration that trusts the server's authority.
func (s *Server) TLS() *tls.Config {
	s.t.Helper()
	b, err := os.ReadFile(s.CAFile)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		s.t.Fatalf("%s holds no certificate", s.CAFile)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// An API is a client of the REST API with somebody's rights.
type API struct {
	s      *Server
	client *http.Client
	token  string
}

// SignIn uses up the login code of the first start.
func (s *Server) SignIn() *API {
	s.t.Helper()
	a := &API{s: s, client: &http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS()}, Timeout: StartTime}}
	s.t.Cleanup(a.client.CloseIdleConnections)
	var in struct{ Token string }
	a.Call(http.MethodPost, "/sign-in", map[string]string{"code": s.LoginCode}, &in)
	a.token = in.Token
	return a
}

// Token returns the access token.
func (a *API) Token() string { return a.token }

// On returns the API of s, the same installation after a restart.
func (a *API) On(s *Server) *API { return &API{s: s, client: a.client, token: a.token} }

// Call makes a request below /api/v1 and reads the answer into out. It fails the
// test if the answer is an error.
func (a *API) Call(method, path string, in, out any) {
	a.s.t.Helper()
	if err := a.Do(method, path, in, out); err != nil {
		a.s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// Do is Call for a request that may be refused.
func (a *API) Do(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	url := fmt.Sprintf("https://localhost:%d/api/v1%s", a.s.HTTPSPort, path)
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return errors.New(res.Status + ": " + strings.TrimSpace(string(b)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
