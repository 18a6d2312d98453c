package model

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A step is one thing that happens. What exactly follows from picks and from
// the state of the world, so that any list of steps is a case.
type step struct {
	Do    string
	On    int // which device
	Picks []int
}

// A picker makes choices out of the numbers of a step.
type picker struct {
	picks []int
	n     int
}

// of returns a number below n; 0 is the simplest.
func (p *picker) of(n int) int {
	if p.n >= len(p.picks) {
		return 0
	}
	p.n++
	return p.picks[p.n-1] % n
}

// one is true once in n times, and not in the simplest case.
func (p *picker) one(n int) bool { return p.of(n) == n-1 }

// A weighted list of what may happen.
type weights map[string]int

// everything is a mixture of all there is; exactly weighs what QoS 2 and late
// acknowledgements need.
var (
	everything = weights{
		"connect": 16, "disconnect": 6, "publish0": 9, "publish1": 14, "publish2": 11, "subscribe": 12, "unsubscribe": 3,
		"hold": 3, "ack": 8, "late": 2, "early": 1, "release": 4, "burst": 8, "cut": 3, "illegal": 4, "intrude": 1,
		"pass": 5, "restart": 1, "crash": 1, "burstcrash": 1, "change": 3, "probe": 1,
	}
	exactly = weights{
		"connect": 16, "disconnect": 5, "publish1": 6, "publish2": 24, "subscribe": 6,
		"hold": 6, "ack": 20, "late": 2, "early": 3, "release": 6, "burst": 10, "cut": 4,
		"pass": 1, "restart": 3, "crash": 2, "burstcrash": 4,
	}
)

// names holds each name as often as it weighs.
func (s weights) names() (all []string) {
	for _, what := range order {
		all = append(all, slices.Repeat([]string{what}, s[what])...)
	}
	return all
}

func (s weights) generator() *rapid.Generator[step] {
	names := s.names()
	numbers := make([]int, 60)
	for i := range numbers {
		numbers[i] = i
	}
	pick := rapid.SliceOfN(rapid.SampledFrom(numbers), 18, 18)
	return rapid.Custom(func(t *rapid.T) step {
		return step{
			Do:    rapid.SampledFrom(names).Draw(t, "do"),
			On:    rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5}).Draw(t, "on"),
			Picks: pick.Draw(t, "picks"),
		}
	})
}

// order is that of simplicity.
var order = []string{
	"connect", "subscribe", "publish1", "publish2", "publish0", "disconnect", "hold", "ack", "unsubscribe", "late", "early", "release",
	"probe", "pass", "burst", "cut", "restart", "crash", "burstcrash", "illegal", "intrude", "change",
}

// check runs a case that rapid generates.
func check(t *rapid.T) {
	mix := everything
	if rapid.Bool().Draw(t, "exactly") {
		mix = exactly
	}
	// Lists of lists: rapid would make one list too short.
	chapters := rapid.SliceOfN(rapid.SliceOfN(mix.generator(), 2, 40), 1, 40).Draw(t, "steps")
	rapid.SyncTest(t, func(t *rapid.T) { run(t, slices.Concat(chapters...)) })
}

// stepSize is how many bytes of a fuzzer's input a step takes, and maxSteps how
// many steps it may make.
const (
	stepSize = 16
	maxSteps = 150
)

// checkBytes runs the case that a fuzzer's input stands for.
func checkBytes(t *testing.T, input []byte) {
	names := everything.names()
	var steps []step
	for chunk := range slices.Chunk(input, stepSize) {
		if len(chunk) < 2 || len(steps) == maxSteps {
			break
		}
		s := step{Do: names[int(chunk[0])%len(names)], On: int(chunk[1]) % 6}
		for _, b := range chunk[2:] {
			s.Picks = append(s.Picks, int(b))
		}
		steps = append(steps, s)
	}
	synctest.Test(t, func(t *testing.T) { run(t, steps) })
}

// run runs one case in the bubble that it is called in.
func run(t reporter, steps []step) {
	total.cases.Add(1)
	w := newWorld(t)
	defer w.close()
	for _, s := range steps {
		w.step(s)
	}
	w.finish()
}

func (w *world) step(s step) {
	total.steps.Add(1)
	pick := &picker{picks: s.Picks}
	d := w.devices[s.On]
	if s.Do != "connect" {
		d = w.present(s.On)
	}
	switch s.Do {
	case "connect":
		w.connect(d, pick)
		w.settle()
		if c := d.conn; c != nil && len(c.s.subs) == 0 && pick.of(3) > 0 {
			w.subscribe(d, pick)
		}
	case "disconnect":
		w.disconnect(d, pick)
	case "publish0", "publish1", "publish2":
		w.publish(d, pick, s.Do[7]-'0')
	case "subscribe":
		w.subscribe(d, pick)
	case "unsubscribe":
		w.unsubscribe(d, pick)
	case "hold":
		d.hold = !d.hold
		w.logf("%v holds back: %v", d.id, d.hold)
	case "late":
		d.late = !d.late
		w.logf("%v is late: %v", d.id, d.late)
	case "ack":
		w.ack(d, pick)
	case "early":
		w.early(d, pick)
	case "release":
		w.release(d, pick)
	case "burst":
		w.burst(pick)
	case "cut":
		w.cutShort(d, pick)
	case "burstcrash":
		w.burst(pick)
		w.racing = false
		w.powerCut()
	case "restart":
		w.restart()
	case "crash":
		w.powerCut()
	case "pass":
		w.pass([]time.Duration{1, 4, 6, 20, 70, 400}[pick.of(6)] * time.Second)
	case "change":
		w.change(w.dir.users[pick.of(3)], pick)
	case "illegal":
		w.illegal(d, pick)
	case "intrude":
		w.intrude(d, pick)
	case "probe":
		w.probe(false)
	}
	w.racing = false
	w.settle()
}

// present returns one of the devices that are connected, if there is one.
func (w *world) present(n int) *device {
	var all []*device
	for _, d := range w.devices {
		if d.conn != nil {
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		all = w.devices
	}
	return all[n%len(all)]
}

// burst has several devices do things at once.
func (w *world) burst(pick *picker) {
	w.logf("at once:")
	w.racing = true
	for range 2 + pick.of(4) {
		d := w.present(pick.of(len(w.devices)))
		if n := pick.of(4); n == 3 {
			w.ack(d, pick)
		} else {
			w.publish(d, pick, byte(n))
		}
	}
}

// cutShort cuts a connection on which something is under way.
func (w *world) cutShort(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	w.racing = true
	for range 1 + pick.of(3) {
		if n := pick.of(4); n == 3 {
			w.ack(d, pick)
		} else {
			w.publish(d, pick, byte(n))
		}
	}
	w.racing = false
	w.logf("and cut")
	w.end(c, dropped)
	c.leave()
}

// finish has everybody come back and get what is left.
func (w *world) finish() {
	w.logf("the end")
	for _, u := range w.dir.users {
		if u.gone || u.refused || u.rights != 0 {
			w.dir.set(u, func() { u.gone, u.refused, u.rights = false, false, 0 })
		}
	}
	w.settle()
	for _, d := range w.devices {
		d.hold, d.late = false, false
		u := w.user(d.id)
		w.hello(d, &mqtt.Connect{
			Version: mqtt.V5, ClientID: d.id.client, Username: mqtt.Some(u.login()), Password: mqtt.Credential(u.password()),
			Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](3600)},
		})
		w.settle()
	}
	for _, s := range w.all() {
		for _, e := range s.queue {
			w.failf("left over: %v", e)
		}
	}
	w.probe(false)
	stats, err := w.engine.Stats(context.Background(), "")
	if err != nil {
		w.failf("stats: %v", err)
	}
	subs := 0
	for _, s := range w.all() {
		subs += len(s.subs)
	}
	if stats.Subscriptions != int64(subs) || stats.Queued != 0 {
		w.failf("the engine has %+v, want %d subscriptions and nothing queued", stats, subs)
	}
}

// total counts what was done in all cases.
var total struct{ cases, steps, connections, sent, got, deliveries, again, restarts, crashes atomic.Int64 }

func TestModel(t *testing.T) {
	defer func() {
		if first := firstFailure.Load(); first != nil {
			t.Logf("the first failure, before it was made smaller: %s", *first)
		}
	}()
	rapid.Check(t, check)
	t.Logf("%d cases, %d steps, %d connections, %d restarts, %d power cuts, %d packets sent and %d received, %d deliveries, %d of them again",
		total.cases.Load(), total.steps.Load(), total.connections.Load(), total.restarts.Load(), total.crashes.Load(),
		total.sent.Load(), total.got.Load(), total.deliveries.Load(), total.again.Load())
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		input := make([]byte, stepSize*(20+r.IntN(40)))
		for i := range input {
			input[i] = byte(r.Uint32())
		}
		f.Add(input)
	}
	f.Fuzz(checkBytes)
}
