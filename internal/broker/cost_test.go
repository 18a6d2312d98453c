package broker

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"github.com/keepmq/keepmq/internal/mqtt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a peer costs before CONNECT, by how far it goes. The numbers are printed;
// the bounds are far above them and catch what grows by an order of magnitude.
func TestCostBeforeConnect(t *testing.T) {
	const n = 2000
	for _, tt := range []struct {
		kind   string
		inside bool // takes a place
		bound  int64
	}{
		{"silent", false, 20 << 10},
		{"one byte", true, 60 << 10},
		{"half a ClientHello", true, 60 << 10},
		{"ClientHello and no more", true, 120 << 10},
		{"handshake and no CONNECT", true, 160 << 10},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			w := start(t, func(c *Config) { c.MaxHandshakes, c.ConnectTimeout, c.QueueTimeout = n, 5*time.Minute, 5*time.Minute })
			before := used()
			stop := costClient(t, w, tt.kind, n)
			defer stop()
			c := w.b.Snapshot().Door
			if want := int64(n); c.Open != want || tt.inside && c.Inside != want {
				t.Fatalf("not all of %d are there: %+v", n, c)
			}
			each := (used() - before) / n
			t.Logf("%s: %d bytes each, %d goroutines", tt.kind, each, runtime.NumGoroutine())
			if each > tt.bound {
				t.Errorf("%s costs %d bytes, more than %d", tt.kind, each, tt.bound)
			}
		})
	}
}

// used returns the bytes of heap and stacks in use.
func used() int64 {
	var m runtime.MemStats
	for range 3 { // the later ones empty pools and shrink stacks
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// costClient runs TestCostClient in a process of its own, so that its memory is
// not counted, and returns when it has gone as far as it goes.
func costClient(t *testing.T, w *world, kind string, n int) (stop func()) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestCostClient$", "-test.v")
	cmd.Env = append(os.Environ(), "KEEPMQ_COST_KIND="+kind, "KEEPMQ_COST_N="+strconv.Itoa(n),
		"KEEPMQ_COST_ADDR="+w.addr, "KEEPMQ_COST_CA="+base64.StdEncoding.EncodeToString(w.pki.ca.Raw))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("client: %v", err)
		}
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
				c := w.b.Snapshot().Door
				if c.Open == int64(n) && c.Waiting == 0 && (kind == "silent" || c.Inside == int64(n)) {
					break
				}
			}
			return stop
		}
	}
	stop()
	t.Fatal("the client did not get ready")
	return nil
}

// TestCostClient is the client process of TestCostBeforeConnect.
func TestCostClient(t *testing.T) {
	kind := os.Getenv("KEEPMQ_COST_KIND")
	if kind == "" {
		return // it is for the other test
	}
	n, err := strconv.Atoi(os.Getenv("KEEPMQ_COST_N"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(os.Getenv("KEEPMQ_COST_CA"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	conf.RootCAs.AddCert(ca)
	whole := clientHello(conf)
	part := map[string]int{"silent": 0, "one byte": 1, "half a ClientHello": len(whole) / 2, "ClientHello and no more": len(whole)}
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for k := range 8 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+k))}}
		wg.Go(func() {
			for i := k; i < n; i += 8 {
				nc, err := d.Dial("tcp", os.Getenv("KEEPMQ_COST_ADDR"))
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = nc
				size, partly := part[kind]
				if !partly {
					err = tls.Client(nc, conf).Handshake()
				} else if size > 0 {
					_, err = nc.Write(whole[:size])
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, nc := range conns {
		if nc != nil {
			nc.Close()
		}
	}
}

// clientHello returns the first flight of a client.
func clientHello(conf *tls.Config) []byte {
	var r recorder
	_ = tls.Client(&r, conf).Handshake() // ends when it reads
	return r.written
}

// A recorder is a connection on which nobody answers.
type recorder struct {
	net.Conn
	written []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.written = append(r.written, b...)
	return len(b), nil
}

func (r *recorder) Read([]byte) (int, error)         { return 0, errors.New("nobody answers") }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// The topics that a connection remembers cost little, however long they are.
func TestLongTopicsAreNotRemembered(t *testing.T) {
	w := start(t, nil)
	sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) {
		as(p, testOrg, "v")
		p.Properties.TopicAliasMaximum = mqtt.Some[uint16](32)
	})
	sub.sub("#", 0)
	c := w.connect(mqtt.V5, "c", nil)
	for i := range 40 {
		name := fmt.Sprint(i, strings.Repeat("x", 60_000))
		c.publish(name, "x")
		sub.receive(name, "x")
	}
	held := 0
	w.b.mu.Lock()
	conns := map[string]*conn{}
	for id, k := range w.b.sessions {
		conns[id.Client] = k
	}
	w.b.mu.Unlock()
	sub.bye()
	c.bye()
	<-conns["c"].over
	<-conns["sub"].over
	for name := range conns["c"].known.names {
		held += len(name)
	}
	for name := range conns["sub"].out.topics {
		held += len(name)
	}
	if held > 64<<10 {
		t.Errorf("%d bytes of topics are kept", held)
	}
}
