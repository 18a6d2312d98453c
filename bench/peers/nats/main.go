// Command nats runs the MQTT listener of a NATS server over TLS at its defaults,
// for anonymous clients: nats ADDRESS CERTIFICATE KEY FOLDER.
package main

import (
	"crypto/tls"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	if len(os.Args) != 5 {
		fail("usage: nats ADDRESS CERTIFICATE KEY FOLDER")
	}
	cert, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		fail(err.Error())
	}
	host, port, err := net.SplitHostPort(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		fail(err.Error())
	}
	o := &server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: -1, NoSigs: true,
		JetStream: true, StoreDir: os.Args[4], // MQTT needs it
	}
	o.MQTT.Host, o.MQTT.Port = host, n
	o.MQTT.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	o.MQTT.TLSTimeout = 10
	s, err := server.NewServer(o)
	if err != nil {
		fail(err.Error())
	}
	go s.Start() // ends with Shutdown
	if !s.ReadyForConnections(10 * time.Second) {
		fail("not ready")
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
	s.Shutdown()
	s.WaitForShutdown()
}

func fail(why string) {
	os.Stderr.WriteString(why + "\n")
	os.Exit(1)
}
