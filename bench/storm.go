package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

const (
	stormClients = 10_000 // that come back at once
	stormRate    = 2000   // messages a second of those who have stayed
	stormOpeners = 1000   // who come back at a time: the rest is their pause
)

// storm measures what others notice while a fleet comes back: established pairs
// exchange messages at a moderate rate, thousands of idle clients lose their
// connection at one moment, and all of them make a full handshake and CONNECT.
// Once for each peer, in a fresh process.
func storm(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, func(Peer) bool { return true }, func(p Peer) error {
		return b.fresh(ctx, p, b.roomy(), func(broker *Broker) error { return b.stormOne(ctx, r, broker) })
	})
}

func (b *bench) stormOne(ctx context.Context, r *Result, broker *Broker) error {
	s := pairs(1)
	s.pubs, s.subs = 200, 200
	l, err := connectLoad(ctx, broker, s)
	if err != nil {
		return err
	}
	defer l.close()
	n := min(b.connections, stormClients)
	f, err := b.fleet(ctx, broker, n)
	if err != nil {
		return err
	}
	defer f.proc.stop()
	peer := broker.Peer.Name()
	note := func(when string, m round) {
		for _, p := range []float64{50, 99, 99.9} {
			r.add(fmt.Sprintf("p%v %s, ms", p, when), peer, float64(percentile(m.latency, p/100))/float64(time.Millisecond))
		}
		r.note(peer, 0, m)
	}
	quiet, err := l.steady(stormRate, b.seconds, b.watch(r.Name, broker, 0))
	if err != nil {
		return err
	}
	note("before", quiet)
	var took time.Duration
	during, err := l.beside(stormRate, func() error {
		start := time.Now()
		err := f.tell(ctx)
		took = time.Since(start)
		return err
	})
	if err != nil {
		return err
	}
	note("while they come back", during)
	r.add("all are back after, s", peer, took.Seconds())
	r.add("connects per second", peer, float64(n)/took.Seconds())
	return nil
}

// fleetArg is the argument with which this program starts itself as the clients
// that come back. In the field they are other machines; here they are a process of
// its own at the lowest priority, so that what is measured is the broker
// and not how this program shares its own processors out.
const fleetArg = "fleet"

type fleet struct {
	proc  *process
	in    io.Writer
	lines *bufio.Scanner
}

// A fleetOrder is what the process is told at first.
type fleetOrder struct {
	Addr, RootFile, Username, Password string
	Clients                            int
}

// fleet starts n clients and waits until all are connected.
func (b *bench) fleet(ctx context.Context, broker *Broker, n int) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the bench itself: %w", err)
	}
	cmd := exec.Command("nice", "-n", "19", self, fleetArg)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, to := io.Pipe()
	cmd.Stdout = to
	f := &fleet{in: in, lines: bufio.NewScanner(out)}
	if f.proc, err = launch(cmd); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		<-f.proc.done
		to.Close()
	}()
	order := fleetOrder{broker.Addr, broker.rootFile, broker.Username, broker.Password.Reveal(), n}
	if err = json.NewEncoder(in).Encode(order); err == nil {
		err = f.answer(ctx)
	}
	if err != nil {
		f.proc.stop()
		return nil, err
	}
	return f, nil
}

// tell has all clients lose their connection and come back, and waits for that.
func (f *fleet) tell(ctx context.Context) error {
	if _, err := io.WriteString(f.in, "again\n"); err != nil {
		return err
	}
	return f.answer(ctx)
}

func (f *fleet) answer(ctx context.Context) error {
	defer context.AfterFunc(ctx, f.proc.stop)()
	if !f.lines.Scan() {
		return fmt.Errorf("the clients that come back have ended: %s", f.proc.log)
	}
	return nil
}

// serveFleet is the other process. It writes a line whenever all are connected.
func serveFleet(stdin io.Reader, stdout io.Writer) error {
	lines := bufio.NewScanner(stdin)
	var o fleetOrder
	if !lines.Scan() {
		return lines.Err()
	}
	if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
		return err
	}
	pem, err := os.ReadFile(o.RootFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	b := &Broker{Peer: relay{}, Addr: o.Addr, TLS: clientTLS(&tls.Config{RootCAs: pool}), Username: o.Username, Password: secret.New(o.Password)}
	connect := func(i int) (*client, error) {
		return b.dial(context.Background(), i, fmt.Sprintf("storm-%d", i), true)
	}
	all, err := b.open(context.Background(), o.Clients, connect)
	for err == nil {
		if _, err = fmt.Fprintln(stdout, "connected"); err != nil || !lines.Scan() {
			break
		}
		for _, c := range all {
			c.tls.NetConn().Close()
		}
		all, err = b.openBy(context.Background(), stormOpeners, o.Clients, connect)
	}
	return err
}

// beside sends at a fixed rate while f runs, and notes the latency of what was
// sent meanwhile.
func (l *load) beside(perSecond int, f func() error) (round, error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var behind int64
	wg.Go(func() { behind = l.pace(perSecond, stop) })
	err := pause(l.ctx, warmUp)
	start, had := time.Now(), l.delivered()
	if err == nil {
		l.from.Store(int64(time.Since(l.base)))
		l.to.Store(math.MaxInt64)
		err = f()
		l.to.Store(int64(time.Since(l.base)))
	}
	close(stop)
	wg.Wait()
	r := round{elapsed: time.Since(start), delivered: l.delivered() - had, behind: behind}
	if err != nil {
		return r, err
	}
	return l.finish(r)
}
