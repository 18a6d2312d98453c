package store

import (
	"errors"
	"fmt"
	"testing"
)

type lite int

func (e lite) Error() string { return "sqlite" }
func (e lite) Code() int     { return int(e) }

type postgres string

func (e postgres) Error() string    { return "postgres" }
func (e postgres) SQLState() string { return string(e) }

func TestIsUnique(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{lite(1555), true}, {lite(2067), true}, {lite(19), false}, {lite(275), false},
		{postgres("23505"), true}, {postgres("23503"), false},
		{fmt.Errorf("insert: %w", postgres("23505")), true},
		{errors.Join(errors.New("a"), lite(2067)), true},
		{errors.New("UNIQUE constraint failed"), false}, {nil, false},
	} {
		if got := IsUnique(test.err); got != test.want {
			t.Errorf("IsUnique(%v) = %v, want %v", test.err, got, test.want)
		}
	}
}
