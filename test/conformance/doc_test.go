// Package conformance shows, statement by statement, that the program does what
// MQTT 5.0 and MQTT 3.1.1 demand of a server. It speaks to the real program,
// packet by packet, over TLS and over WebSocket.
//
// # The tables
//
// Every normative statement of both standards is a row of a table: table5_*_test.go
// for MQTT 5.0, table311_*_test.go for 3.1.1. A row has the statement's number
// ("3.1.0-1" is [MQTT-3.1.0-1]), what it demands in our own words, and one of:
//
//	shown("3.1.0-1", "…", "TestX", "internal/broker.TestY")  tests that show it
//	untested("4.3.2-1", "…", "why")                           why no test can
//	clientOnly("3.1.2-20", "…")                               binds clients only
//
// That is the one place that says which test shows what. TestTables fails when
// a statement has no row, when a row has neither tests nor a reason, when a test
// that it names does not exist, when a test of this package is in no row, and
// when the code of this package cites a statement that is in neither table.
//
// # How to add a test
//
// Write it in the file of its subject (connect_test.go, publish_test.go,
// negative_publish_test.go, …), name it after the behaviour, put its name into the rows that
// it shows and cite their numbers next to the line that checks them. Say how it
// runs:
//
//	func TestRetainedMessageIsReplaced(t *testing.T) {
//		both(t, func(t *trial) {
//			c := t.connect()
//			c.publish(&mqtt.Publish{Topic: t.topic("a"), Payload: []byte("1"), QoS: 1, Retain: true})
//			…
//		})
//	}
//
// both runs it in 3.1.1 and in 5.0; only runs it in one version. Which transport
// is used (TLS or WebSocket) and how bytes are written (a packet in one write,
// one byte in each write, several packets in one write) then depends on the
// test's name, so that all of them are in use over the whole suite. everywhere
// runs a test in every combination: keep it for one test of each kind of
// exchange, the suite is to stay below a minute on two slow cores.
//
// A trial has names of its own: t.id("x") is a client identifier and t.topic("x")
// a topic that no other test uses, so that tests run side by side. Do not
// subscribe to more than t.topic("#"), unless in an organisation of its own
// (t.elsewhere), and do not touch the server itself.
//
// Legal packets are made with internal/mqtt; illegal ones are bytes, given to
// client.raw. Nothing waits for time to pass: that nothing came is shown by a
// ping (client.nothing), or by a message that must come after it (client.reaches:
// what a session has kept may come after the answer to a ping). What depends
// on time (keep alive, expiry, delay) is tested in internal/broker and
// internal/engine with a clock that the test moves, and the rows name those tests.
//
// Each test must fail without the behaviour: break the program on purpose once.
package conformance

import (
	"testing"

	"github.com/keepmq/keepmq/test/server"
)

func TestMain(m *testing.M) { server.Main(m) }
