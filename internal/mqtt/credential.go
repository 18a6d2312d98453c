package mqtt

import (
	"fmt"
	"io"
	"log/slog"
)

// Credential is bytes that must not be seen: a password or authentication
// data. It prints as [secret] through fmt, slog and encoding/json; convert it
// to []byte to use it. A nil Credential is absent, an empty one is present.
type Credential []byte

const redacted = "[secret]"

// String returns a placeholder.
func (Credential) String() string { return redacted }

// Format writes a placeholder for every verb: %d and %x would otherwise show
// the bytes.
func (Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns a placeholder.
func (Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder.
func (Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }
