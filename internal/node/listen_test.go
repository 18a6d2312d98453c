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
