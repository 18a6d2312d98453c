package broker

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// A client whose messages are refused does not fill the log.
func TestRefusalsInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &conn{log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 10_000 {
			c.logRefusal("publish refused", errs.E(errs.Denied, "not yours"))
			time.Sleep(time.Millisecond)
		}
		if n := bytes.Count(log.Bytes(), []byte("not yours")); n != 10 {
			t.Errorf("%d lines in ten seconds", n)
		}
	})
}
