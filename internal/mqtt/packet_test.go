package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
)

func TestAppendWithin(t *testing.T) {
	long := Some(strings.Repeat("r", 80))
	many := []UserProperty{{"key", strings.Repeat("v", 100)}}
	props := Properties{ReasonString: long, UserProperties: many, SessionExpiry: Some[uint32](5), AuthMethod: Some("m")}
	for _, p := range []Packet{
		&Connack{Properties: props},
		&Ack{Type: PUBREC, PacketID: 1, Code: QuotaExceeded, ReasonString: long, UserProperties: many},
		&Suback{PacketID: 1, Codes: []ReasonCode{0}, ReasonString: long, UserProperties: many},
		&Unsuback{PacketID: 1, Codes: []ReasonCode{0}, ReasonString: long, UserProperties: many},
		&Disconnect{Code: QuotaExceeded, Properties: props},
		&Auth{Code: ContinueAuthentication, Properties: props},
	} {
		whole := p.Append(nil, V5)
		for _, tt := range []struct {
			max    int
			user   bool
			reason bool
			ok     bool
		}{
			{len(whole), true, true, true}, {len(whole) - 1, false, true, true}, {60, false, false, true}, {2, false, false, false},
		} {
			dst, ok := AppendWithin([]byte("x"), p, V5, uint32(tt.max))
			if ok != tt.ok || dst[0] != 'x' || !ok && len(dst) != 1 || len(dst)-1 > tt.max {
				t.Errorf("%T max %d: %d bytes, %v", p, tt.max, len(dst)-1, ok)
				continue
			}
			if user, reason := bytes.Contains(dst, []byte("vvv")), bytes.Contains(dst, []byte("rrr")); user != tt.user || reason != tt.reason {
				t.Errorf("%T max %d: user %v, reason %v", p, tt.max, user, reason)
			}
			if _, err := parse(dst[1:], V5); ok && err != nil {
				t.Errorf("%T max %d: %v", p, tt.max, err)
			}
		}
		if !bytes.Equal(p.Append(nil, V5), whole) {
			t.Errorf("%T: AppendWithin changed the packet", p)
		}
	}
	if _, ok := AppendWithin(nil, &Publish{Topic: []byte("t")}, V5, 5); ok {
		t.Error("a PUBLISH was cut")
	}
}

func TestReader(t *testing.T) {
	var wire []byte
	list := packets(V5)[1:]
	for _, p := range list {
		wire = p.Append(wire, V5)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(wire), "bytes": iotest.OneByteReader(bytes.NewReader(wire)), "half": iotest.HalfReader(bytes.NewReader(wire)),
		"data with error": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		rd := NewReader(r, MaxPacketSize)
		for i, want := range list {
			if got, err := rd.Packet(V5); err != nil || !same(got, want) {
				t.Fatalf("%s: packet %d: %+v, %v\nwant %+v", name, i, got, err, want)
			}
		}
		if _, _, err := rd.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReaderErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"cut header", strings.NewReader("\x30"), io.ErrUnexpectedEOF},
		{"cut body", strings.NewReader("\x30\x05ab"), io.ErrUnexpectedEOF},
		{"too large", strings.NewReader("\x30\xff\x7f"), ErrTooLarge},
		{"broken", iotest.ErrReader(io.ErrClosedPipe), io.ErrClosedPipe},
		{"silent", silent{}, io.ErrNoProgress},
	} {
		if _, err := NewReader(tt.r, 100).Packet(V5); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := NewReader(strings.NewReader("\x00\x00"), 100).Packet(V5); err == nil {
		t.Error("type 0 accepted")
	}
}

// A packet that claims to be huge costs no more memory than has arrived.
func TestReaderMemory(t *testing.T) {
	r := NewReader(io.MultiReader(strings.NewReader("\x30\xff\xff\xff\x7f"), bytes.NewReader(make([]byte, 10_000))), MaxPacketSize)
	if _, _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if cap(r.buf) > 32_768 {
		t.Errorf("buffer of %d bytes", cap(r.buf))
	}
}

func TestCredentialIsNotShown(t *testing.T) {
	c := Connect{ClientID: "id", Password: Credential("hunter2"), Properties: Properties{AuthData: Credential("hunter2")}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb, c, c.Password)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "password", c.Password, "packet", c)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "password", c.Password, "packet", c)
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), "104 117 110", "aHVudGVyM"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("shown as %q", leak)
		}
	}
}

func TestReasonCodes(t *testing.T) {
	n := 0
	for i := range 256 {
		c := ReasonCode(i)
		named := !strings.HasPrefix(c.String(), "reason code 0x")
		used := false
		for typ := CONNECT; typ <= AUTH; typ++ {
			used = used || c.ValidIn(typ)
		}
		if named != used {
			t.Errorf("0x%02X: name %q, used %v", i, c, used)
		}
		if named {
			n++
		}
	}
	if n != 43 { // table 2-6
		t.Errorf("%d codes", n)
	}
	if Success.IsError() || GrantedQoS2.IsError() || Reauthenticate.IsError() || !UnspecifiedError.IsError() {
		t.Error("IsError is wrong")
	}
	for got, want := range map[fmt.Stringer]string{
		PUBACK: "PUBACK", Type(16): "type 16", V31: "3.1", V311: "3.1.1", V5: "5.0", Version(6): "level 6",
		ReturnNotAuthorized: "not authorized", ReturnCode(9): "return code 9", ReasonCode(0x92): "Packet Identifier not found",
	} {
		if got.String() != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Version(2).Valid() || !V31.Valid() || !V5.Valid() || Version(6).Valid() {
		t.Error("Valid is wrong")
	}
}

func TestConnectVersion(t *testing.T) {
	for _, v := range versions {
		body := (&Connect{Version: v}).Append(nil, 0)[2:]
		if got, err := ConnectVersion(body[:len(body)-2]); got != v || err != nil {
			t.Errorf("%v: got %v, %v", v, got, err)
		}
	}
	_, err := ConnectVersion([]byte("\x00\x04MQTT\x06"))
	var e *Error
	if !errors.As(err, &e) || e.Code != UnsupportedProtocolVersion || !strings.Contains(e.Error(), "Unsupported") {
		t.Errorf("level 6: %v", err)
	}
}
