package broker

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// poster lets an application with the API key a-abc123-key post over HTTP.
func (d *directory) poster() {
	const key = "a-abc123-key"
	d.add(testOrg, key, nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.users[string(testOrg)+"/"+key]
	u.password = "token"
	d.users[key] = u
}

// post begins a request with a body of two bytes, which are not sent.
func (w *world) post(path string) *client {
	c := newClient(w.t, w.dial(nil), mqtt.V5)
	c.raw([]byte("POST /api/v0002/application/types/t/devices/d/" + path + " HTTP/1.1\r\nHost: x\r\n" +
		"Authorization: Basic YS1hYmMxMjMta2V5OnRva2Vu\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"))
	return c
}

// status reads the first line of an answer.
func (c *client) status() string {
	c.t.Helper()
	b := make([]byte, 4096)
	n, err := c.nc.Read(b)
	if err != nil {
		c.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b[:n]), "\r\n")
	return line
}

// A message over HTTP whose body is long in coming is judged by what its sender
// may do when it is there.
func TestRevokedWhilePosting(t *testing.T) {
	for name, change := range map[string]func(*user){
		"refused": func(u *user) { u.refused = errs.E(errs.Denied, "disabled") },
		"rules":   func(u *user) { u.spec.Rules = nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				w.dir.poster()
				sub := w.connect(mqtt.V5, "sub", nil)
				sub.sub("#", 0)
				c := w.post("events/e")
				synctest.Wait() // it has authenticated
				if w.dir.asked != 2 {
					t.Fatal("it has not authenticated yet")
				}
				w.dir.set(testOrg, "a-abc123-key", change)
				synctest.Wait()
				c.raw([]byte("{}"))
				if line := c.status(); line != "HTTP/1.1 403 Forbidden" {
					t.Errorf("answer %q", line)
				}
				sub.silent()
			})
		})
	}
}

// A credential that ends while the body is on its way is no good any more.
func TestExpiredWhilePosting(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.dir.poster()
		w.dir.quietly("a-abc123-key", func(u *user) { u.spec.Expires = time.Now().Add(5 * time.Second) })
		sub := w.connect(mqtt.V5, "sub", nil)
		sub.sub("#", 0)
		c := w.post("events/e")
		time.Sleep(6 * time.Second)
		c.raw([]byte("{}"))
		if line := c.status(); line != "HTTP/1.1 401 Unauthorized" {
			t.Errorf("answer %q", line)
		}
		sub.silent()
	})
}

// Over HTTP a client is slowed down as on a connection of MQTT, whether its
// messages are allowed or not, and its owner sees what limits it reached.
func TestPostLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		limits  quota.Limits
		rules   []auth.Rule
		limit   quota.Limit
		outcome quota.Outcome
		status  int
	}{
		"rate":    {quota.Limits{}.With(quota.ClientMessageRate, 20), all(), quota.ClientMessageRate, quota.Delayed, 200},
		"denied":  {quota.Limits{}.With(quota.ClientMessageRate, 20), nil, quota.ClientMessageRate, quota.Delayed, 403},
		"levels":  {quota.Limits{}.With(quota.ClientTopicLevels, 3).With(quota.ClientMessageRate, 20), all(), quota.ClientTopicLevels, quota.Refused, 429},
		"payload": {quota.Limits{}.With(quota.ClientPayload, 1).With(quota.ClientMessageRate, 20), all(), quota.ClientPayload, quota.Refused, 413},
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, tt.limits, func(t *testing.T, w *world, log *quota.Log) {
				w.dir.poster()
				w.dir.quietly("a-abc123-key", func(u *user) { u.spec.Rules = tt.rules })
				web := w.web()
				web.Transport.(*http.Transport).DisableKeepAlives = false
				began := time.Now()
				for range 50 {
					r, err := http.NewRequest("POST", "https://"+w.addr+"/api/v0002/application/types/t/devices/d/events/e", strings.NewReader("{}"))
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Content-Type", "application/json")
					r.SetBasicAuth("a-abc123-key", "token")
					res, err := web.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, res.Body) // or the connection is not used again
					res.Body.Close()
					if res.StatusCode != tt.status {
						t.Fatalf("status %d", res.StatusCode)
					}
				}
				if d := time.Since(began); name != "payload" && d < 400*time.Millisecond {
					t.Errorf("50 requests took %v", d)
				}
				event(t, log, testOrg, tt.limit, tt.outcome)
			})
		})
	}
}
