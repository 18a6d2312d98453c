package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Run carries out the command in args, without the program's name, and returns
// the exit code. It ends early when ctx does.
func Run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	e := newEnv(in, out, errw)
	cmd := root(e)
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errw)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	message, hint := explain(err)
	fmt.Fprintln(errw, "keepmq: "+message)
	if hint != "" {
		fmt.Fprintln(errw, "  "+hint)
	}
	if u := new(usageError); errors.As(err, &u) {
		return 2
	}
	return 1
}
