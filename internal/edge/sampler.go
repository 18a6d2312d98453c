package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keepmq/keepmq/internal/edge/sources"
)

// readWithin bounds how long all sensors together may take.
const readWithin = 10 * time.Second

// A sampler reads the sources at an interval and puts the readings into the
// spool, one synced batch each time.
type sampler struct {
	sources  []sources.Source
	interval time.Duration
	keep     func(time.Time, []reading) error
	log      *slog.Logger

	failing map[string]bool // sources whose failure has been reported
	full    bool            // the spool's failure has been reported
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	s.failing = map[string]bool{}
	t := time.NewTicker(s.interval)
	defer t.Stop()
	for {
		s.sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sample takes one reading of each source. They have the same time.
func (s *sampler) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	now := time.Now()
	var batch []reading
	for _, src := range s.sources {
		payload, err := readSource(ctx, now, src)
		switch {
		case errors.Is(err, sources.ErrAbsent), errors.Is(err, sources.ErrLater), ctx.Err() != nil:
		case err != nil:
			if !s.failing[src.Name] {
				s.log.Warn("a sensor fails; the others are read on", "source", src.Name, "err", err)
			}
			s.failing[src.Name] = true
		default:
			if s.failing[src.Name] {
				s.log.Info("a sensor works again", "source", src.Name)
			}
			delete(s.failing, src.Name)
			batch = append(batch, reading{src.Name, payload})
		}
	}
	if len(batch) == 0 {
		return
	}
	err := s.keep(now, batch)
	if err != nil && !s.full {
		s.log.Error("readings cannot be kept; they are lost and counted until this changes", "err", err)
	}
	if err == nil && s.full {
		s.log.Info("readings are kept again")
	}
	s.full = err != nil
}

// readSource also survives a driver that panics.
func readSource(ctx context.Context, now time.Time, src sources.Source) (payload []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	fields, err := src.Read(ctx)
	if err != nil {
		return nil, err
	}
	return encodeReading(now, src.Name, fields)
}
