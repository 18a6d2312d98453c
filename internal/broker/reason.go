package broker

import (
	"errors"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// connectCode returns the reason code of a refused CONNECT.
func connectCode(err error) mqtt.ReasonCode {
	if pe := new(mqtt.Error); errors.As(err, &pe) {
		return pe.Code
	}
	if errors.Is(err, auth.ErrMethod) {
		return mqtt.BadAuthenticationMethod
	}
	switch errs.CodeOf(err) {
	case errs.Unauthenticated:
		return mqtt.BadUserNameOrPassword
	case errs.Denied, errs.NotFound, errs.Conflict:
		return mqtt.NotAuthorized
	case errs.Invalid:
		return mqtt.ClientIdentifierNotValid
	case errs.Exhausted:
		return mqtt.QuotaExceeded
	}
	return mqtt.ServerUnavailable
}

// returnCode returns the return code of a refused CONNECT before MQTT 5.
// Clients in the field stop for good at 5, and after 2, 3 and 4 come back every
// second: whatever is wrong with the credentials is a 5.
func returnCode(code mqtt.ReasonCode) mqtt.ReturnCode {
	switch code {
	case mqtt.UnsupportedProtocolVersion:
		return mqtt.ReturnUnacceptableLevel
	case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.QuotaExceeded:
		return mqtt.ReturnServerUnavailable
	}
	return mqtt.ReturnNotAuthorized
}

// publishCode returns the reason code of a refused PUBLISH.
func publishCode(err error) mqtt.ReasonCode {
	if errors.Is(err, engine.ErrQueueFull) || errors.Is(err, engine.ErrDiskFull) {
		return mqtt.QuotaExceeded
	}
	switch errs.CodeOf(err) {
	case errs.Denied, errs.Unauthenticated, errs.NotFound:
		return mqtt.NotAuthorized
	case errs.Invalid:
		return mqtt.TopicNameInvalid
	case errs.Exhausted:
		return mqtt.QuotaExceeded
	case errs.Unavailable:
		return mqtt.ImplementationSpecificError
	}
	return mqtt.UnspecifiedError
}

// subscribeCode returns the reason code of a refused topic filter.
func subscribeCode(err error) mqtt.ReasonCode {
	if code := publishCode(err); code != mqtt.TopicNameInvalid {
		return code
	}
	return mqtt.TopicFilterInvalid
}

// maxReason bounds a reason string. It may repeat a topic, which has up to 65,535
// bytes, and is sent for each refusal.
const maxReason = 1024

// reason returns msg as a reason string.
func reason(msg string) mqtt.Opt[string] {
	if len(msg) > maxReason {
		msg = strings.ToValidUTF8(msg[:maxReason], "") + "…" // not half a character [MQTT-1.5.4-1]
	}
	return mqtt.Some(msg)
}

// An ending says why a connection ends.
type ending struct {
	code   mqtt.ReasonCode
	msg    string // may be shown to the client
	err    error  // for the log
	quiet  bool   // the client is not told: it said goodbye itself, or is gone
	urgent bool   // what waits to be sent is thrown away
	clean  bool   // the client ended it with DISCONNECT 0x00: no will
	lost   bool   // the session is not ours any more
}

// Endings without a cause.
var (
	endShutdown  = ending{code: mqtt.ServerShuttingDown}
	endTakeover  = ending{code: mqtt.SessionTakenOver, urgent: true}
	endKeepAlive = ending{code: mqtt.KeepAliveTimeout, msg: "nothing was received for one and a half times the keep alive"}
	endExpired   = ending{code: mqtt.NotAuthorized, msg: "the credential has expired", urgent: true}
)

// endingOf returns how a connection ends on an error of its reader.
func endingOf(err error) ending {
	if pe := new(mqtt.Error); errors.As(err, &pe) {
		return ending{code: pe.Code, msg: pe.Msg, err: err}
	}
	if e := new(errs.Error); errors.As(err, &e) {
		code := publishCode(err)
		if !code.ValidIn(mqtt.DISCONNECT) {
			code = mqtt.UnspecifiedError
		}
		return ending{code: code, msg: e.Msg, err: err}
	}
	if errors.Is(err, engine.ErrLost) {
		return ending{code: mqtt.SessionTakenOver, err: err, lost: true}
	}
	return ending{code: mqtt.UnspecifiedError, err: err}
}

// protocolError is a breach of the protocol that the codec cannot see.
func protocolError(code mqtt.ReasonCode, msg string) error { return &mqtt.Error{Code: code, Msg: msg} }
