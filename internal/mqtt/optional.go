package mqtt

// Opt is a value that may be absent. Its zero value is absent.
type Opt[T any] struct {
	v  T
	ok bool
}

// Some returns a present value.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

// Get returns the value and whether it is present.
func (o Opt[T]) Get() (T, bool) { return o.v, o.ok }

// Or returns the value, or def if it is absent.
func (o Opt[T]) Or(def T) T {
	if o.ok {
		return o.v
	}
	return def
}

// Present reports whether there is a value.
func (o Opt[T]) Present() bool { return o.ok }
