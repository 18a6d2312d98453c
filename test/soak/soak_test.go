// Package soak loads the real program with many clients over TLS while others
// attack it, and looks for what must not be: a message that was acknowledged and
// never came, came twice or out of order; a goroutine, a file or memory that
// stays when everybody has gone.
//
// It reports the latencies of the well-behaved with and without the attackers.
// `go test` runs it small; `make soak` with 10,000 clients, for minutes.
package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/test/server"
)

var (
	clients   = flag.Int("soak.clients", 120, "well-behaved clients")
	attackers = flag.Int("soak.attackers", 0, "attackers at one time; 0: one for every 20 clients")
	phase     = flag.Duration("soak.phase", 4*time.Second, "length of the calm and of the stormy phase")
	rate      = flag.Int("soak.rate", 200, "messages a second, all clients together")
	cycles    = flag.Int("soak.cycles", 2, "how often everybody comes and goes")
	seed      = flag.Uint64("soak.seed", 0, "seed; 0: a new one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	server.Main(m)
}

// A world is a server with an organisation, and everybody who uses it.
type world struct {
	t        *testing.T
	s        *server.Server
	address  string
	org      string
	password secret.String // of the fleet
	other    string        // password of a user whom the attackers are
	seed     uint64
	run      string // makes the topics of one cycle differ from those of another
}

func TestSoak(t *testing.T) {
	w := &world{t: t, s: start(t), seed: *seed}
	if w.seed == 0 {
		w.seed = rand.Uint64()
	}
	if *attackers == 0 {
		*attackers = max(*clients/20, 8)
	}
	t.Logf("seed %d: %d clients, %d attackers, %d messages a second", w.seed, *clients, *attackers, *rate)
	w.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(w.s.MQTTPort))
	api := w.s.SignIn()
	var made struct{ ID, Password string }
	api.Call(http.MethodPost, "/orgs", map[string]string{"name": "Soak", "profile": "plain"}, &made)
	w.org = made.ID
	api.Call(http.MethodPost, "/orgs/"+w.org+"/users", map[string]string{"name": "fleet"}, &made)
	w.password = secret.New(made.Password)
	api.Call(http.MethodPost, "/orgs/"+w.org+"/users", map[string]string{"name": "other"}, &made)
	w.other = made.Password

	before := w.measure()
	var after []usage
	for i := range *cycles {
		w.run = fmt.Sprint("cycle", i)
		w.cycle(rand.New(rand.NewPCG(w.seed, uint64(i))))
		after = append(after, w.settle(before))
	}
	w.judge(before, after)
}

// start starts a server that does not log every attack.
func start(t *testing.T) *server.Server {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "keepmq.yaml")
	if err := os.WriteFile(config, []byte("log: {level: warn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.Start(t, filepath.Join(dir, "data"), "--config", config)
}

// cycle has everybody come, live through a calm and a stormy phase, and go.
func (w *world) cycle(r *rand.Rand) {
	f := w.newFleet(r)
	began := time.Now()
	f.connect()
	w.t.Logf("%s: %d clients connected in %v", w.run, len(f.members), time.Since(began).Round(time.Millisecond))

	calm := f.live("calm", *phase)
	ctx, stop := context.WithCancel(context.Background())
	a := w.attack(ctx, r)
	storm := f.live("storm", *phase)
	stop()
	tried := a.wait()
	f.drain()
	f.leave()
	w.t.Logf("%s: %s\n%s\n%s\nattackers: %s", w.run, f.total(), calm, storm, tried)
	f.check()
}
