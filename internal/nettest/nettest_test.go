package nettest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// connected returns both ends of a connection.
func connected(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := Listen()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server, _ = l.Accept()
	}()
	client, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	<-done
	l.Close()
	if _, err := l.Dial(); err == nil {
		t.Error("a closed listener is dialled")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts: %v", err)
	}
	return client, server
}

func TestBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connected(t)
		if client.RemoteAddr().String() != server.LocalAddr().String() || client.LocalAddr().String() != server.RemoteAddr().String() {
			t.Errorf("addresses %v-%v and %v-%v", client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
		}
		sent := bytes.Repeat([]byte("0123456789"), Buffer/3)
		var wg sync.WaitGroup
		for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			wg.Go(func() {
				if n, err := ends[0].Write(sent); n != len(sent) || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
			})
			wg.Go(func() {
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("read other bytes, or %v", err)
				}
			})
		}
		wg.Wait()
	})
}

// A buffer that is full makes the writer wait, exactly until its deadline.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connected(t)
		server.(*Conn).SetReadBuffer(10)
		begun := time.Now()
		client.SetWriteDeadline(begun.Add(3 * time.Second))
		if n, err := client.Write(make([]byte, 25)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 3*time.Second {
			t.Errorf("wrote %d, %v after %v", n, err, time.Since(begun))
		}
		if n, err := client.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v after the deadline", n, err)
		}
		client.SetDeadline(time.Time{})
		go server.Read(make([]byte, 10))
		if n, err := client.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("wrote %d, %v when there was room", n, err)
		}
		server.Read(make([]byte, 1))

		begun = time.Now()
		server.SetReadDeadline(begun.Add(time.Second))
		server.SetReadDeadline(begun.Add(2 * time.Second)) // the last one counts
		_, err := server.Read(make([]byte, 1))
		if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() || time.Since(begun) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		client.Write([]byte("y"))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the deadline: %v", err)
		}
		server.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Hour)
			server.SetReadDeadline(time.Unix(1, 0))
		}()
		if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		begun = time.Now()
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Hour {
			t.Errorf("%v after %v: a deadline in the past must wake the reader", err, time.Since(begun))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connected(t)
		client.Write([]byte("last words"))
		client.Close()
		got, err := io.ReadAll(server)
		if string(got) != "last words" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("wrote to who is gone")
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if _, err := client.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("wrote after Close: %v", err)
		}

		// Whoever waits is told.
		client, server = connected(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("waiting reader: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := server.Write(make([]byte, 2*Buffer)); err == nil {
				t.Error("waiting writer is not told")
			}
		})
		synctest.Wait()
		client.Close()
		wg.Wait()
	})
}
