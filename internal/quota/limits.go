package quota

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keepmq/keepmq/internal/errs"
)

// Limits are a value for each limit; 0 says that none is set. It is comparable.
type Limits struct{ n [count]int64 }

// Defaults returns the default of every limit.
func Defaults() Limits {
	var s Limits
	for _, l := range All() {
		s.n[l] = l.Default()
	}
	return s
}

// Get returns the value of l; 0: it is not set.
func (s *Limits) Get(l Limit) int64 { return s.n[l] }

// With returns s with another value for l, which is not checked; 0 unsets it.
func (s Limits) With(l Limit, v int64) Limits {
	s.n[l] = v
	return s
}

// Over returns base with what s sets instead.
func (s Limits) Over(base Limits) Limits {
	for l, v := range s.n {
		if v != 0 {
			base.n[l] = v
		}
	}
	return base
}

// Under returns base with what s sets instead, as far as it is lower. With
// ClientQueueFull, where there is no lower, s decides.
func (s Limits) Under(base Limits) Limits {
	for l, v := range s.n {
		if v != 0 && (v < base.n[l] || base.n[l] == 0 || Limit(l) == ClientQueueFull) {
			base.n[l] = v
		}
	}
	return base
}

// The words for the values of ClientQueueFull.
var queueFull = map[string]int64{"refuse": Refuse, "end_session": EndSession}

// Map returns the values that are set, by name.
func (s Limits) Map() map[string]any {
	m := map[string]any{}
	for l, v := range s.n {
		switch {
		case v == 0:
		case Limit(l) == ClientQueueFull:
			for word, n := range queueFull {
				if n == v {
					m[Limit(l).String()] = word
				}
			}
		default:
			m[Limit(l).String()] = v
		}
	}
	return m
}

// Parse returns the limits that m sets, by name. It reports every mistake at
// once, with errs.Invalid: an unknown name, a value that is no whole number or
// out of its range.
func Parse(m map[string]any) (Limits, error) {
	s, bad := parse(m)
	for l, v := range s.n {
		least, most := Limit(l).Range()
		if _, set := m[Limit(l).String()]; set && (v < least || v > most) {
			bad = append(bad, fmt.Errorf("%s: %d is not within %d and %d", Limit(l), v, least, most))
		}
	}
	return s, joined(bad)
}

// Change returns s with what m sets instead, by name; nil unsets. It reports
// every mistake at once, as Parse does.
func (s Limits) Change(m map[string]any) (Limits, error) {
	set := map[string]any{}
	var bad []error
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch l, ok := Named(name); {
		case m[name] != nil:
			set[name] = m[name]
		case ok:
			s.n[l] = 0
		default:
			bad = append(bad, fmt.Errorf("%s: there is no such limit", name))
		}
	}
	changed, err := Parse(set)
	if err != nil {
		bad = append(bad, err)
	}
	return changed.Over(s), joined(bad)
}

// Value returns what is set for l as Parse takes it; nil: nothing.
func (s Limits) Value(l Limit) any { return s.Map()[l.String()] }

// parse is Parse without a look at the ranges.
func parse(m map[string]any) (s Limits, bad []error) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		l, ok := Named(name)
		if !ok {
			bad = append(bad, fmt.Errorf("%s: there is no such limit", name))
			continue
		}
		v, err := value(l, m[name])
		if err != nil {
			bad = append(bad, err)
			v = l.Default()
		}
		s.n[l] = v
	}
	return s, bad
}

// joined makes one error of many that may be shown.
func joined(bad []error) error {
	if len(bad) == 0 {
		return nil
	}
	return errs.E(errs.Invalid, "%s", errors.Join(bad...).Error())
}

func value(l Limit, v any) (int64, error) {
	if l == ClientQueueFull {
		word, _ := v.(string)
		if n, ok := queueFull[word]; ok {
			return n, nil
		}
		return 0, fmt.Errorf("%s: must be refuse or end_session", l)
	}
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
	case float64: // what encoding/json makes of a number
		if n := int64(v); float64(n) == v {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s: %v is not a whole number", l, v)
}

// MarshalJSON writes the values that are set, by name.
func (s Limits) MarshalJSON() ([]byte, error) { return json.Marshal(s.Map()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Limits) UnmarshalJSON(b []byte) error {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err := d.Decode(&m)
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	*s, err = Parse(m)
	return err
}

// MarshalYAML writes the values that are set, by name.
func (s Limits) MarshalYAML() (any, error) { return s.Map(), nil }

// UnmarshalYAML lays what the document sets over s. Whether the values are in
// their ranges is for the caller to ask, who has more to report.
func (s *Limits) UnmarshalYAML(decode func(any) error) error {
	var m map[string]any
	if err := decode(&m); err != nil {
		return err
	}
	set, bad := parse(m)
	if bad != nil {
		return joined(bad)
	}
	for name := range m {
		l, _ := Named(name)
		s.n[l] = set.n[l]
	}
	return nil
}
