// Command mochi runs the mochi broker over TLS at its defaults, for anonymous
// clients: mochi ADDRESS CERTIFICATE KEY.
package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	if len(os.Args) != 4 {
		fail("usage: mochi ADDRESS CERTIFICATE KEY")
	}
	cert, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		fail(err.Error())
	}
	s := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		fail(err.Error())
	}
	l := listeners.NewTCP(listeners.Config{ID: "tls", Address: os.Args[1], TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
	}})
	if err := s.AddListener(l); err != nil {
		fail(err.Error())
	}
	if err := s.Serve(); err != nil {
		fail(err.Error())
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
	if err := s.Close(); err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	os.Stderr.WriteString(why + "\n")
	os.Exit(1)
}
