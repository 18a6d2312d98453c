package client

import "sync"

// Session remembers which QoS 2 messages have been handed to the application
// and not been released by the server, so that none is handed out twice when
// the server sends it again on the next connection. The zero Session is ready.
// It lives in memory: a process that restarts may see such a message again.
type Session struct {
	mu       sync.Mutex // guards the field below
	received map[uint16]struct{}
}

// claim reports whether the message with this id has not been handed out yet.
func (s *Session) claim(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.received[id]; ok {
		return false
	}
	if s.received == nil {
		s.received = map[uint16]struct{}{}
	}
	s.received[id] = struct{}{}
	return true
}

// forget reports whether id was known.
func (s *Session) forget(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.received[id]
	delete(s.received, id)
	return ok
}

// reset forgets all: the server has no session either.
func (s *Session) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.received)
}
