package errs

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

// The outermost code and message count; the cause stays inside.
func TestCodes(t *testing.T) {
	cause := fmt.Errorf("read row: %w", io.ErrUnexpectedEOF)
	for _, tt := range []struct {
		err     error
		code    Code
		message string
	}{
		{nil, Internal, ""},
		{cause, Internal, ""},
		{E(Invalid, "limit must be %d at most", 3), Invalid, "limit must be 3 at most"},
		{Wrap(Unavailable, cause, "try again"), Unavailable, "try again"},
		{fmt.Errorf("list: %w", E(NotFound, "no device")), NotFound, "no device"},
		{Wrap(Denied, E(NotFound, "no device"), "not allowed"), Denied, "not allowed"},
	} {
		if got := CodeOf(tt.err); got != tt.code {
			t.Errorf("%v: code %d, want %d", tt.err, got, tt.code)
		}
		if got := Message(tt.err); got != tt.message {
			t.Errorf("%v: message %q, want %q", tt.err, got, tt.message)
		}
	}
	if err := Wrap(Unavailable, cause, "try again"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v does not lead to its cause", err)
	}
}
