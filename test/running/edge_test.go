package running

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/test/server"
)

const interval = 200 * time.Millisecond

// The readings of a device reach an application in order, with their own times,
// none twice and none missing, although the server is killed again and again
// and is away for seconds.
func TestEdgeOutlivesServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := server.Start(t, dir)
	ports := []string{"--mqtt", fmt.Sprintf("127.0.0.1:%d", s.MQTTPort), "--https", fmt.Sprintf("127.0.0.1:%d", s.HTTPSPort)}
	api := s.SignIn()
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/types", map[string]string{"id": "station"}, nil)
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/devices", map[string]string{"type": "station", "id": "st-1"}, nil)
	var enrolment struct{ Token string }
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/devices/station/st-1/enrolments", map[string]any{}, &enrolment)

	readings := receive(t, s)
	token := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(token, []byte(enrolment.Token), 0o600))
	agent := exec.Command(server.Program(t), "edge", "--server", fmt.Sprintf("https://localhost:%d", s.HTTPSPort),
		"--broker", fmt.Sprintf("localhost:%d", s.MQTTPort), "--ca", s.CAFile, "--dir", filepath.Join(t.TempDir(), "edge"),
		"--token-file", token, "--interval", interval.String())
	start(t, agent)

	var times []time.Time
	until := func(late time.Time) {
		t.Helper()
		timer := time.NewTimer(server.StartTime)
		defer timer.Stop()
		for len(times) == 0 || times[len(times)-1].Before(late) {
			select {
			case at := <-readings:
				times = append(times, at)
			case <-timer.C:
				t.Fatalf("no reading of after %v came; the server's log:\n%s", late, s.Log())
			}
		}
	}
	until(time.Now())
	for range 3 {
		s.Kill()
		time.Sleep(2 * time.Second) // the server is away: this is no waiting for something
		s = server.Start(t, dir, ports...)
		until(time.Now())
	}
	widest := time.Duration(0)
	for i := 1; i < len(times); i++ {
		step := times[i].Sub(times[i-1])
		if step <= 0 {
			t.Errorf("reading %d is of %v, the one before of %v", i, times[i], times[i-1])
		}
		widest = max(widest, step)
	}
	// A reading may be late on a busy machine; those of an absence are many.
	if widest > 1500*time.Millisecond {
		t.Errorf("no reading for %v, while the server was away for 2s", widest)
	}
	t.Logf("%d readings, at most %v apart", len(times), widest)
}

// receive yields the times of the load readings that an application with a
// session of its own gets with QoS 2. It connects again whenever it is cut.
func receive(t *testing.T, s *server.Server) <-chan time.Time {
	t.Helper()
	conf := client.Config{
		Address: fmt.Sprintf("localhost:%d", s.MQTTPort), TLS: s.TLS(), ClientID: "a:" + s.Org + ":reader",
		Username: s.Application.Key, Password: secret.New(s.Application.Token),
		SessionExpiry: time.Hour, Session: new(client.Session),
	}
	c, err := client.Dial(t.Context(), conf)
	must(t, err)
	_, err = c.Subscribe(t.Context(), mqtt.Subscription{Filter: "iot-2/type/station/id/st-1/evt/load/fmt/json", QoS: 2})
	must(t, err)
	readings := make(chan time.Time, 4096)
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); done.Wait() })
	done.Go(func() {
		for ctx.Err() == nil {
			m, err := c.Receive(ctx)
			if err == nil {
				var r struct{ Time time.Time }
				if err := json.Unmarshal(m.Payload, &r); err != nil {
					t.Errorf("reading %q: %v", m.Payload, err)
				}
				readings <- r.Time
				continue
			}
			c.Abort()
			for next, err := client.Dial(ctx, conf); ctx.Err() == nil; next, err = client.Dial(ctx, conf) {
				if err == nil {
					c = next
					break
				}
				time.Sleep(50 * time.Millisecond) // until the server is back
			}
		}
		c.Abort()
	})
	return readings
}

// start starts a program that ends with the test.
func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	c.Stderr = &log
	must(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait() // it was told to end
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(c.Path), strings.TrimSpace(log.String()))
		}
	})
}
