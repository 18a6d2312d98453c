package console

import (
	"net/http"
	"time"
)

// NewWith is New with another time for a write to a browser.
func NewWith(c Config, writeIn time.Duration) (http.Handler, error) {
	s, err := newServer(c)
	if err != nil {
		return nil, err
	}
	s.writeIn = writeIn
	return s.routes(), nil
}

// OwnHost is ownHost.
func OwnHost(host string) bool { return ownHost(host) }
