package quota

import (
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/errs"
)

// exceeded is the cause within the errors of Exceeded.
type exceeded struct {
	limit Limit
	value int64
}

func (e *exceeded) Error() string { return "limit " + e.limit.String() }

// Exceeded returns the refusal of what goes beyond l, whose value is v. It has
// the code errs.Exhausted and may be shown to the client.
func Exceeded(l Limit, v int64) error {
	return errs.Wrap(errs.Exhausted, &exceeded{l, v}, fmt.Sprintf("%s is %d: %s", l, v, l.About()))
}

// ExceededBy returns the limit and its value that err is a refusal of.
func ExceededBy(err error) (l Limit, v int64, ok bool) {
	e := new(exceeded)
	if !errors.As(err, &e) {
		return 0, 0, false
	}
	return e.limit, e.value, true
}
