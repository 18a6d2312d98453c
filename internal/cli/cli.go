// Package cli is the command keepmq: one file per verb.
//
// It promises that what --json prints is the stable form, that a message to a
// person says what to do next, that no secret has to be an argument, and that
// the exit code is 0 for done, 1 for not done and 2 for a command that was not
// understood. It talks to a server through the REST API and MQTT only, with TLS
// that it never relaxes.
package cli

import (
	"io"
	"os"
)

// An env is what a command works with.
type env struct {
	in     io.Reader
	out    io.Writer
	errw   io.Writer
	getenv func(string) string

	// Flags that every command has.
	json       bool
	org        string
	server     string
	ca         string
	key        string
	tokenStdin bool
}

func newEnv(in io.Reader, out, errw io.Writer) *env {
	return &env{in: in, out: out, errw: errw, getenv: os.Getenv}
}
