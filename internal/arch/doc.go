// Package arch holds the tests that keep the tree as docs/ARCHITECTURE.md says:
// which package may import which, how large a file or function may become,
// which modules we depend on, and that nothing listens without TLS.
package arch
