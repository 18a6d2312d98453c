//go:build !linux

package poll

import "errors"

type waiter struct{}

func (*waiter) open() error        { return errors.ErrUnsupported }
func (*waiter) close()             {}
func (*waiter) wait(*Worker) error { return errors.ErrUnsupported }

type events struct{ n int }

func (*events) at(int) (int, bool) { return 0, false }

func (*Worker) gatherOnce(uintptr) bool { return true }

func (*Poller) add(*Conn) error { return errors.ErrUnsupported }

func (*Conn) readNow(uintptr) bool  { return true }
func (*Conn) writeNow(uintptr) bool { return true }

type table struct{}

func (*table) get(int) *Conn { return nil }
func (*table) remove(*Conn)  {}
