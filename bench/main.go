// Command bench measures KeepMQ beside other brokers on one machine, in one
// run: processor time for each message, latency, memory, connections.
//
// Each broker is a process of its own on loopback, over TLS 1.3; what it uses
// is read from the operating system's accounting. Numbers of one machine mean
// little elsewhere, so the table gives ratios. What is measured, and how, is in
// docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A bench is one run.
type bench struct {
	peers   []Peer
	brokers []*Broker // of the peers, in the same order; nil if it does not run
	rounds  int
	seconds time.Duration
	// How far the rows of growth go, and how many messages are drained.
	connections, orgs, stored, subscriptions, retained int
	sessions                                           int // of the row restart

	profile string // folder; empty: none
	out     string
	stdout  io.Writer
	stderr  io.Writer
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == fleetArg {
		exit(serveFleet(os.Stdin, os.Stdout))
	}
	if len(os.Args) == 5 && os.Args[1] == relayArg {
		exit(serveRelay(os.Stdout, os.Args[2], os.Args[3], os.Args[4]))
	}
	runtime.LockOSThread() // see launch
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	exit(err)
}

func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	b := &bench{stdout: stdout, stderr: stderr}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	names := f.String("rows", "", "comma-separated beginnings of row names; empty: all of "+strings.Join(rowNames(allRows()), ", "))
	peers := f.String("peers", "keepmq,mosquitto,mochi,nats,floor", "comma-separated; the ratios compare the first with each other")
	f.IntVar(&b.rounds, "rounds", 3, "rounds of each row, the peers in turn")
	f.DurationVar(&b.seconds, "seconds", 2500*time.Millisecond, "length of a round, as in 2.5s")
	f.IntVar(&b.connections, "connections", 19_000, "most connections of the rows of idle connections and of growth")
	f.IntVar(&b.orgs, "orgs", 1000, "most organisations of the row of growth")
	f.IntVar(&b.stored, "stored", 100_000, "most stored messages of the row of growth, and messages of the row drain")
	f.IntVar(&b.subscriptions, "subscriptions", 1_000_000, "most subscriptions of the row of growth")
	f.IntVar(&b.retained, "retained", 100_000, "retained messages of the row retained")
	f.IntVar(&b.sessions, "sessions", 10_000, "sessions of the row restart, each with fifty stored messages")
	f.StringVar(&b.profile, "profile", "", "folder for what /proc says of each broker over time, and the generator's own profile")
	f.StringVar(&b.out, "out", "bench/out", "folder for the results as JSON")
	binary := f.String("keepmq", "bin/keepmq", "our server")
	limit := f.Duration("limit", time.Hour, "end the run after this time")
	if err := f.Parse(args); err != nil {
		return err
	}
	rows, err := chooseRows(*names)
	if err != nil {
		return err
	}
	if f.NArg() > 0 || b.rounds < 1 || b.connections < 1 || b.orgs < 1 || b.stored < 1 ||
		b.subscriptions < 1 || b.retained < 1 || b.sessions < 1 || b.seconds < 100*time.Millisecond {
		return errors.New("usage: bench [flags]; see -help")
	}
	if b.peers, err = choosePeers(*peers, *binary); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("the run took longer than %v (-limit)", *limit))
	defer cancel()
	stopProfile, err := b.startProfile()
	if err != nil {
		return err
	}
	defer stopProfile()
	return b.run(ctx, rows)
}

// run runs the rows and reports what was measured, also if it was cut short.
func (b *bench) run(ctx context.Context, rows []row) error {
	report := newReport(ctx, b)
	b.brokers = make([]*Broker, len(b.peers))
	defer b.stopAll()
	remove, err := b.startAll(ctx)
	defer remove()
	if err != nil {
		return err
	}
	for _, w := range rows {
		fmt.Fprintf(b.stderr, "%s …", w.name)
		start := time.Now()
		r := Result{Name: w.name, Title: w.title}
		err = w.run(ctx, b, &r)
		report.Rows = append(report.Rows, r)
		fmt.Fprintf(b.stderr, " %v\n", time.Since(start).Round(100*time.Millisecond))
		if err != nil {
			break
		}
	}
	report.Seconds = time.Since(report.Time).Seconds()
	return errors.Join(err, report.write(b))
}

// startAll starts all peers, each in a folder that remove removes.
func (b *bench) startAll(ctx context.Context) (remove func(), err error) {
	var all []func()
	remove = func() {
		b.stopAll()
		for _, f := range all {
			f()
		}
	}
	for i, p := range b.peers {
		dir, f, err := tempDir(p.Name())
		if err != nil {
			return remove, err
		}
		all = append(all, f)
		if b.brokers[i], err = p.Start(ctx, dir); err != nil {
			return remove, err
		}
	}
	return remove, nil
}

func (b *bench) stopAll() {
	for i, broker := range b.brokers {
		if broker != nil {
			broker.Stop()
			b.brokers[i] = nil
		}
	}
}

// startProfile profiles the generator itself: if it is the slower side, what
// is measured of a broker at saturation is still its cost, but not its limit.
func (b *bench) startProfile() (stop func(), err error) {
	if b.profile == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	f, err := os.Create(filepath.Join(b.profile, "generator.prof"))
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

func rowNames(rows []row) (names []string) {
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// chooseRows returns the rows that begin with one of the names.
func chooseRows(list string) ([]row, error) {
	all := allRows()
	if list == "" {
		return all, nil
	}
	var chosen []row
	for _, r := range all {
		if slices.ContainsFunc(strings.Split(list, ","), func(n string) bool { return n != "" && strings.HasPrefix(r.name, n) }) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no row begins with %q; the rows are %s", list, strings.Join(rowNames(all), ", "))
	}
	return chosen, nil
}

// choosePeers returns the peers of these names.
func choosePeers(list, binary string) ([]Peer, error) {
	var chosen []Peer
	for name := range strings.SplitSeq(list, ",") {
		var p Peer
		var err error
		switch strings.ToLower(name) {
		case "keepmq":
			p, err = newKeepMQ(binary)
		case "mosquitto":
			p, err = newMosquitto()
		case "mochi":
			p, err = newMochi()
		case "nats":
			p, err = newNATS()
		case "floor":
			p = relay{}
		default:
			err = fmt.Errorf("no peer %q; there are keepmq, mosquitto, mochi, nats and floor", name)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chosen, func(q Peer) bool { return q.Name() == p.Name() }) {
			return nil, fmt.Errorf("peer %q is named twice", name)
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}
