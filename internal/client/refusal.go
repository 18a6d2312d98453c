package client

import (
	"errors"
	"fmt"
	"io"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// ErrClosed is the reason of a connection that its owner closed.
var ErrClosed = errors.New("mqtt connection is closed")

// A Refusal is the server's no. It unwraps to an [errs.Error] whose code says
// what the caller can do about it.
type Refusal struct {
	Packet mqtt.Type       // the packet that carried it, CONNACK for example
	Code   mqtt.ReasonCode // of a 3.1.1 server: the code that means the same
	Reason string          // the server's own words, "" if it gave none
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("the server answered %s (0x%02X) in %s", r.Code, byte(r.Code), r.Packet)
	if r.Packet == mqtt.DISCONNECT {
		s = fmt.Sprintf("the server disconnected: %s (0x%02X)", r.Code, byte(r.Code))
	}
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}

// Unwrap returns an error that has the code of package errs.
func (r *Refusal) Unwrap() error {
	return errs.E(r.class(), "%s", r.Error())
}

func (r *Refusal) class() errs.Code {
	switch r.Code {
	case mqtt.BadUserNameOrPassword, mqtt.BadAuthenticationMethod:
		return errs.Unauthenticated
	case mqtt.NotAuthorized, mqtt.Banned, mqtt.AdministrativeAction:
		return errs.Denied
	case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.ServerShuttingDown, mqtt.UseAnotherServer, mqtt.ServerMoved,
		mqtt.NormalDisconnection, mqtt.UnspecifiedError, mqtt.ImplementationSpecificError:
		return errs.Unavailable
	case mqtt.QuotaExceeded, mqtt.ConnectionRateExceeded, mqtt.MessageRateTooHigh, mqtt.ReceiveMaximumExceeded:
		return errs.Exhausted
	case mqtt.SessionTakenOver, mqtt.PacketIdentifierInUse:
		return errs.Conflict
	}
	return errs.Invalid
}

// returnCodes are the reason codes that mean what a 3.1.1 return code means.
var returnCodes = [...]mqtt.ReasonCode{
	mqtt.ReturnUnacceptableLevel:  mqtt.UnsupportedProtocolVersion,
	mqtt.ReturnIdentifierRejected: mqtt.ClientIdentifierNotValid,
	mqtt.ReturnServerUnavailable:  mqtt.ServerUnavailable,
	mqtt.ReturnBadCredentials:     mqtt.BadUserNameOrPassword,
	mqtt.ReturnNotAuthorized:      mqtt.NotAuthorized,
}

func connectRefusal(p *mqtt.Connack, v mqtt.Version) *Refusal {
	code := p.Code
	if v < mqtt.V5 {
		code = returnCodes[code] // the decoder lets no other code pass
	}
	return &Refusal{Packet: mqtt.CONNACK, Code: code, Reason: p.Properties.ReasonString.Or("")}
}

func disconnectRefusal(p *mqtt.Disconnect) *Refusal {
	return &Refusal{Packet: mqtt.DISCONNECT, Code: p.Code, Reason: p.Properties.ReasonString.Or("")}
}

// refused returns the error that an acknowledgement carries, or nil.
func refused(a Ack) error {
	if !a.Code.IsError() {
		return nil
	}
	return &Refusal{a.Type, a.Code, a.Reason}
}

// ended words the end of a stream.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the server closed the connection: %w", err)
	}
	return err
}
