package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/keepmq/keepmq/internal/secret"
)

// secret gets a secret without an argument that a list of processes or the
// shell's history would show: from standard input if fromStdin, else from the
// environment, else by asking.
func (e *env) secret(fromStdin bool, variable, what string) (secret.String, error) {
	if !fromStdin {
		if s := e.getenv(variable); s != "" {
			return secret.New(s), nil
		}
		if s, asked, err := e.ask(what); asked {
			return s, err
		}
		return secret.String{}, hint("pipe it in, or set "+variable, "the %s is needed", what)
	}
	line, err := bufio.NewReader(io.LimitReader(e.in, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return secret.String{}, fmt.Errorf("read the %s: %w", what, err)
	}
	line = strings.TrimSpace(line)
	if line == "" {
		return secret.String{}, hint("write it to standard input, on one line", "the %s is empty", what)
	}
	return secret.New(line), nil
}

// ask asks a person at a terminal, without showing what is typed.
func (e *env) ask(what string) (s secret.String, asked bool, err error) {
	f, ok := e.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return secret.String{}, false, nil
	}
	fmt.Fprintf(e.errw, "%s: ", what)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(e.errw)
	if err != nil {
		return secret.String{}, true, fmt.Errorf("read the %s: %w", what, err)
	}
	return secret.New(strings.TrimSpace(string(b))), true, nil
}

// twoSecrets reads two secrets: asked for at a terminal, else one on each line of
// standard input. The first may be empty.
func (e *env) twoSecrets(first, second string) (a, b secret.String, err error) {
	if a, asked, err := e.ask(first); asked {
		if err != nil {
			return a, b, err
		}
		b, _, err = e.ask(second)
		return a, b, err
	}
	in := bufio.NewReader(io.LimitReader(e.in, 4096))
	var lines [2]string
	for i := range lines {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return a, b, fmt.Errorf("read standard input: %w", err)
		}
		lines[i] = strings.TrimRight(line, "\r\n")
	}
	if lines[1] == "" {
		return a, b, hint("write them to standard input, one on each line", "the %s is empty", strings.ToLower(second))
	}
	return secret.New(lines[0]), secret.New(lines[1]), nil
}
