package embedded_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// lateCancel is a context that has ended by the time somebody looks, and told nobody.
type lateCancel struct{ context.Context }

func (lateCancel) Err() error { return context.Canceled }

// Who is gone when its retained messages have been queued gets an error, and never
// a success without results.
func TestSubscribeGone(t *testing.T) {
	e := open(t, onDisk(t.TempDir()))
	s := claim(t, e, "sub", time.Hour, &quiet{})
	f, err := topic.ParseFilter("t/#")
	if err != nil {
		t.Fatal(err)
	}
	became, err := s.Subscribe(lateCancel{context.Background()}, []engine.Subscription{{Filter: f, QoS: 1, Retained: engine.RetainedAlways}})
	if !errors.Is(err, context.Canceled) || became != nil {
		t.Errorf("got %v, %v", became, err)
	}
}
