package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// The formats of records. The first had neither a number nor a salt.
const (
	firstFormat  = 1
	recordFormat = 2
)

const (
	recordLimit = 64 << 10
	detailDepth = 6
)

// A Record is an event as it is kept. Its JSON text, in this order of fields, is
// what is hashed.
//
// Number is its place among the records of its organisation, from 0, so that a
// gap is seen in what one organisation was given. Salt is random, so that the
// hash of a record tells nothing about it to who is shown only the hash.
type Record struct {
	Format    int            `json:"v"`
	Seq       int64          `json:"seq"`
	Time      time.Time      `json:"time"`
	Org       auth.OrgID     `json:"org"`
	Number    int64          `json:"number"`
	Salt      string         `json:"salt"`
	Actor     string         `json:"actor"` // auth.Principal.String
	Action    string         `json:"action"`
	Target    string         `json:"target"`
	Detail    map[string]any `json:"detail,omitempty"`
	Address   string         `json:"address,omitempty"`
	RequestID string         `json:"request,omitempty"`
}

func (e Event) record(seq, number int64, now time.Time, salt string) Record {
	return Record{
		Format: recordFormat, Seq: seq, Time: now.UTC().Truncate(time.Microsecond),
		Org: e.Org, Number: number, Salt: salt, Actor: e.Actor.String(), Action: e.Action, Target: e.Target,
		Detail: e.Detail, Address: e.Address, RequestID: e.RequestID,
	}
}

// text returns the canonical text of r: one line, keys of maps sorted, and
// nothing in it that does something on a terminal or in a spreadsheet.
func (r Record) text() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	text := []byte(tame(strings.TrimSuffix(b.String(), "\n")))
	if len(text) > recordLimit {
		return nil, errs.E(errs.Invalid, "audit event is longer than %d bytes", recordLimit)
	}
	return text, nil
}

// tame escapes in a JSON text what does something on a terminal or, as semicolons
// do where they separate cells, in a spreadsheet. Both can be in its strings only.
func tame(text string) string { return strings.ReplaceAll(EscapeJSON(text), ";", `\u003b`) }

// EscapeJSON escapes in a JSON text what is not printable, which can be in its
// strings only, but for the ends of lines between them.
func EscapeJSON(text string) string {
	if !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		switch {
		case !unprintable(c):
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

func unprintable(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }

// parseRecord reads a record and checks that it stands where it belongs.
func parseRecord(text []byte, seq int64) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, tampered("record %d cannot be read", seq)
	}
	switch {
	case r.Format != firstFormat && r.Format != recordFormat:
		return Record{}, errs.E(errs.Invalid, "record %d has format %d, which this program does not know; use a newer KeepMQ", seq, r.Format)
	case r.Seq != seq:
		return Record{}, tampered("record %d stands in the place of record %d", r.Seq, seq)
	case r.Format == firstFormat && (r.Number != 0 || r.Salt != ""), r.Number < 0:
		return Record{}, tampered("record %d cannot be read", seq)
	}
	return r, nil
}

// checkDetail lets only plain values pass. A struct does not pass, so a
// secret.String never does; nor do bytes, which are most likely a key.
func checkDetail(detail map[string]any) error {
	for k, v := range detail {
		if err := checkValue(reflect.ValueOf(v), detailDepth); err != nil {
			return fmt.Errorf("detail %q: %w", k, err)
		}
	}
	return nil
}

func checkValue(v reflect.Value, depth int) error {
	if depth == 0 {
		return errs.E(errs.Invalid, "audit detail is nested too deeply")
	}
	switch v.Kind() {
	case reflect.Invalid, reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return nil
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return nil
		}
	case reflect.Interface:
		return checkValue(v.Elem(), depth)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			break
		}
		for i := range v.Len() {
			if err := checkValue(v.Index(i), depth-1); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			break
		}
		for _, e := range v.Seq2() {
			if err := checkValue(e, depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	return errs.E(errs.Invalid, "audit detail must not hold a %s", v.Type())
}
