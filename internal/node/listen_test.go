package node

import (
	"context"
	"net"
	"testing"
	"time"
)

// Connections above the bound are closed at once; one that is closed makes room.
func TestBoundedListener(t *testing.T) {
	inner, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := bound(inner, 1)
	defer ln.Close()
	accepted := make(chan net.Conn, 3)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- nc
		}
	}()
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	dial()
	first := <-accepted
	second := dial()
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("a byte came from nowhere")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("a connection above the bound was left open")
	}
	first.Close()
	first.Close() // gives back one place only
	dial()
	(<-accepted).Close()
}

// One address does not take all places.
func TestBoundedListenerKeepsRoom(t *testing.T) {
	inner, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := bound(inner, 4)
	accepted := make(chan net.Conn, 8)
	go func() {
		defer close(accepted)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- nc
		}
	}()
	dial := func(last byte) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, last)}}
		nc, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
	}
	for range 4 {
		dial(2)
	}
	dial(3)
	count := map[string]int{}
	for range 4 {
		nc := <-accepted
		count[nc.RemoteAddr().(*net.TCPAddr).IP.String()]++
		defer nc.Close()
	}
	if count["127.0.0.2"] != 3 || count["127.0.0.3"] != 1 {
		t.Errorf("let in: %v, want 3 and 1", count)
	}
	ln.Close()
	if nc, ok := <-accepted; ok {
		nc.Close()
		t.Error("a fifth connection was let in")
	}
}
