// Package model compares the broker, on its embedded engine, with a model of
// the MQTT specification: random clients send random packets, legal and not,
// while connections are cut, rights change, time passes and the server is
// restarted or loses its power.
//
// A case is a list of steps, which rapid generates, shrinks and repeats from its
// seed. It runs in a bubble of testing/synctest: after each step the broker has
// done all it would ever do, so the model knows what each client must have got
// by then, and waiting for hours costs nothing. Connections and the disk are in
// memory; TLS, codec, broker and engine are the real ones.
//
// A failure prints its seed. To look further than 100 cases, or at one again:
//
//	go test ./test/model -rapid.checks=10000
//	go test ./test/model -rapid.seed=1
//	scripts/fuzz 10m test/model
//
// Where the specification, or a crash, leaves freedom, the model holds what may
// be besides what must be.
package model
