package broker

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// A client whose messages are refused does not fill the log.
func TestRefusalsInLog(t *testing.T) {
	var log bytes.Buffer
	c := &conn{log: slog.New(slog.NewTextHandler(&log, nil))}
	began := time.Now()
	for range 10_000 {
		c.logRefusal("publish refused", errs.E(errs.Denied, "not yours"))
	}
	most := int(time.Since(began)/time.Second) + 2
	if n := bytes.Count(log.Bytes(), []byte("not yours")); n < 1 || n > most {
		t.Errorf("%d lines, want 1 to %d", n, most)
	}
}
