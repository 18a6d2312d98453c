package mqtt

import (
	"errors"
	"strings"
	"testing"
)

type badPacket struct {
	name   string
	v      Version
	packet string
	code   ReasonCode
}

const (
	mal  = MalformedPacket
	prot = ProtocolError
	id1  = "\x00\x01"
	u1   = "\x26\x00\x01k\x00\x01v" // a user property
)

// connectBody makes a CONNECT of version v with these flags.
func connectBody(v Version, flags byte, rest ...string) string {
	name := "MQTT"
	if v == V31 {
		name = "MQIsdp"
	}
	return raw(0x10, str(name), string([]byte{byte(v), flags, 0, 60}), strings.Join(rest, ""))
}

var badFrames = []badPacket{
	{"type 0", V5, "\x00\x00", mal},
	{"length not minimal", V5, "\xC0\x80\x00", mal},
	{"length not minimal, 4 bytes", V311, "\x30\x80\x80\x80\x00", mal},
	{"length of 5 bytes", V5, "\x30\xFF\xFF\xFF\xFF\x01", mal},
	{"length without end", V5, "\x30\x80\x80\x80\x80", mal},
	{"connect flags", V5, "\x11\x00", mal},
	{"connack flags", V5, "\x21\x00", mal},
	{"puback flags", V5, "\x42\x02\x00\x01", mal},
	{"pubrec flags", V5, "\x51\x02\x00\x01", mal},
	{"pubrel flags 0", V5, "\x60\x02\x00\x01", mal},
	{"pubrel flags dup", V5, "\x6A\x02\x00\x01", mal},
	{"pubcomp flags", V5, "\x78\x02\x00\x01", mal},
	{"subscribe flags", V5, "\x80\x05", mal},
	{"suback flags", V5, "\x92\x05", mal},
	{"unsubscribe flags", V5, "\xA0\x05", mal},
	{"unsuback flags", V5, "\xB2\x05", mal},
	{"pingreq flags", V5, "\xC1\x00", mal},
	{"pingresp flags", V5, "\xD8\x00", mal},
	{"disconnect flags", V5, "\xE1\x00", mal},
	{"auth flags", V5, "\xF1\x00", mal},
	{"pingreq body", V5, "\xC0\x01", mal},
	{"pingresp body", V5, "\xD0\x01x", mal},
	{"publish qos 3", V5, "\x36\x05", mal},
	{"publish dup qos 0", V5, "\x38\x05", mal},
}

var badConnects = []badPacket{
	{"empty", V5, raw(0x10), mal},
	{"name cut", V5, raw(0x10, "\x00\x04MQ"), mal},
	{"wrong name", V5, raw(0x10, str("MQTX"), "\x05\x02\x00\x00\x00\x00\x00"), UnsupportedProtocolVersion},
	{"lower case name", V5, raw(0x10, str("mqtt"), "\x05\x02\x00\x00\x00\x00\x00"), UnsupportedProtocolVersion},
	{"no level", V5, raw(0x10, str("MQTT")), mal},
	{"level 6", V5, connectBody(6, 2, "\x00", str("")), UnsupportedProtocolVersion},
	{"level 3 as MQTT", V5, raw(0x10, str("MQTT"), "\x03\x02\x00\x00", str("a")), UnsupportedProtocolVersion},
	{"level 4 as MQIsdp", V5, raw(0x10, str("MQIsdp"), "\x04\x02\x00\x00", str("a")), UnsupportedProtocolVersion},
	{"bridge bit", V311, connectBody(0x84, 2, str("")), UnsupportedProtocolVersion},
	{"no flags", V5, raw(0x10, str("MQTT"), "\x05"), mal},
	{"no keep alive", V5, raw(0x10, str("MQTT"), "\x05\x02\x00"), mal},
	{"reserved flag", V5, connectBody(V5, 3, "\x00", str("")), mal},
	{"reserved flag 3.1.1", V311, connectBody(V311, 1, str("")), mal},
	{"will qos 3", V5, connectBody(V5, 0x1C, "\x00", str(""), "\x00", str("w"), str("")), mal},
	{"will qos without will", V5, connectBody(V5, 0x08, "\x00", str("")), mal},
	{"will retain without will", V311, connectBody(V311, 0x20, str("")), mal},
	{"password without user 3.1.1", V311, connectBody(V311, 0x40, str("a"), str("p")), mal},
	{"password without user 3.1", V31, connectBody(V31, 0x40, str("a"), str("p")), mal},
	{"no properties", V5, connectBody(V5, 2), mal},
	{"properties cut", V5, connectBody(V5, 2, "\x05\x11\x00"), mal},
	{"no client id", V5, connectBody(V5, 2, "\x00"), mal},
	{"client id cut", V311, connectBody(V311, 2, "\x00\x05abc"), mal},
	{"client id NUL", V311, connectBody(V311, 2, str("a\x00")), mal},
	{"client id not UTF-8", V311, connectBody(V311, 2, str("\xff")), mal},
	{"client id surrogate", V5, connectBody(V5, 2, "\x00", str("\xed\xa0\x80")), mal},
	{"no will", V311, connectBody(V311, 6, str("a")), mal},
	{"will properties missing", V5, connectBody(V5, 6, "\x00", str("a"), str("w"), str("p")), mal},
	{"will topic empty", V311, connectBody(V311, 6, str("a"), str(""), str("p")), prot},
	{"will topic wildcard", V311, connectBody(V311, 6, str("a"), str("a/#"), str("p")), mal},
	{"will topic NUL", V5, connectBody(V5, 6, "\x00", str("a"), "\x00", str("\x00"), str("p")), mal},
	{"will payload cut", V311, connectBody(V311, 6, str("a"), str("w"), "\x00\x09p"), mal},
	{"will with topic alias", V5, connectBody(V5, 6, "\x00", str("a"), "\x03\x23\x00\x01", str("w"), str("p")), mal},
	{"will with payload format 2", V5, connectBody(V5, 6, "\x00", str("a"), "\x02\x01\x02", str("w"), str("p")), prot},
	{"will delay twice", V5, connectBody(V5, 6, "\x00", str("a"), section("\x18\x00\x00\x00\x01", "\x18\x00\x00\x00\x01"), str("w"), str("p")), prot},
	{"no user name", V311, connectBody(V311, 0x82, str("a")), mal},
	{"user name not UTF-8", V311, connectBody(V311, 0x82, str("a"), str("\xc0\x80")), mal},
	{"no password", V311, connectBody(V311, 0xC2, str("a"), str("u")), mal},
	{"password cut", V5, connectBody(V5, 0x42, "\x00", str("a"), "\x00\x02p"), mal},
	{"bytes left", V311, connectBody(V311, 2, str("a"), "x"), mal},
	{"bytes left 3.1", V31, connectBody(V31, 2, str("a"), str("user")), mal},
	{"receive maximum 0", V5, connectBody(V5, 2, section("\x21\x00\x00"), str("a")), prot},
	{"maximum packet size 0", V5, connectBody(V5, 2, section("\x27\x00\x00\x00\x00"), str("a")), prot},
	{"request problem info 2", V5, connectBody(V5, 2, section("\x17\x02"), str("a")), prot},
	{"request response info 255", V5, connectBody(V5, 2, section("\x19\xff"), str("a")), prot},
	{"session expiry twice", V5, connectBody(V5, 2, section("\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"), str("a")), prot},
	{"receive maximum twice", V5, connectBody(V5, 2, section("\x21\x00\x01\x21\x00\x01"), str("a")), prot},
	{"authentication data alone", V5, connectBody(V5, 2, section("\x16\x00\x01d"), str("a")), prot},
	{"authentication method twice", V5, connectBody(V5, 2, section("\x15\x00\x01m\x15\x00\x01m"), str("a")), prot},
	{"will delay outside will", V5, connectBody(V5, 2, section("\x18\x00\x00\x00\x01"), str("a")), mal},
	{"reason string", V5, connectBody(V5, 2, section("\x1F\x00\x01x"), str("a")), mal},
	{"unknown property", V5, connectBody(V5, 2, section("\x04\x00"), str("a")), mal},
	{"unknown property above", V5, connectBody(V5, 2, section("\x2B\x00"), str("a")), mal},
	{"property identifier of two bytes", V5, connectBody(V5, 2, section("\x91\x01"), str("a")), mal},
	{"property identifier not minimal", V5, connectBody(V5, 2, section("\x91\x00\x00\x00\x00\x01"), str("a")), mal},
	{"user property cut", V5, connectBody(V5, 2, section("\x26\x00\x01k"), str("a")), mal},
	{"user property value NUL", V5, connectBody(V5, 2, section("\x26\x00\x01k\x00\x01\x00"), str("a")), mal},
	{"property value cut", V5, connectBody(V5, 2, section("\x11\x00\x00"), str("a")), mal},
}

var badPublishes = []badPacket{
	{"empty", V5, raw(0x30), mal},
	{"topic cut", V311, raw(0x30, "\x00\x03a"), mal},
	{"topic empty 3.1.1", V311, raw(0x30, str(""), "x"), prot},
	{"topic empty without alias", V5, raw(0x30, str(""), "\x00", "x"), prot},
	{"topic with +", V311, raw(0x30, str("a/+"), "x"), mal},
	{"topic with #", V5, raw(0x30, str("#"), "\x00", "x"), mal},
	{"topic with NUL", V5, raw(0x30, str("a\x00"), "\x00", "x"), mal},
	{"topic not UTF-8", V311, raw(0x30, str("\x80"), "x"), mal},
	{"topic surrogate", V311, raw(0x30, str("\xed\xbf\xbf"), "x"), mal},
	{"topic overlong", V311, raw(0x30, str("\xc1\xbf"), "x"), mal},
	{"packet id 0", V311, raw(0x32, str("a"), "\x00\x00"), prot},
	{"packet id 0 qos 2", V5, raw(0x34, str("a"), "\x00\x00\x00"), prot},
	{"packet id missing", V311, raw(0x32, str("a")), mal},
	{"packet id cut", V311, raw(0x34, str("a"), "\x01"), mal},
	{"properties missing", V5, raw(0x30, str("a")), mal},
	{"properties cut", V5, raw(0x30, str("a"), "\x05\x01\x01"), mal},
	{"property length not minimal", V5, raw(0x30, str("a"), "\x80\x00"), mal},
	{"property length cut", V5, raw(0x30, str("a"), "\x80"), mal},
	{"topic alias 0", V5, raw(0x30, str("a"), section("\x23\x00\x00")), TopicAliasInvalid},
	{"topic alias twice", V5, raw(0x30, str("a"), section("\x23\x00\x01\x23\x00\x01")), prot},
	{"payload format 2", V5, raw(0x30, str("a"), section("\x01\x02")), prot},
	{"payload format twice", V5, raw(0x30, str("a"), section("\x01\x01\x01\x01")), prot},
	{"expiry twice", V5, raw(0x30, str("a"), section("\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01")), prot},
	{"content type twice", V5, raw(0x30, str("a"), section("\x03\x00\x01x\x03\x00\x01x")), prot},
	{"content type not UTF-8", V5, raw(0x30, str("a"), section("\x03\x00\x01\xff")), mal},
	{"response topic wildcard", V5, raw(0x30, str("a"), section("\x08\x00\x01+")), mal},
	{"response topic empty", V5, raw(0x30, str("a"), section("\x08\x00\x00")), prot},
	{"response topic twice", V5, raw(0x30, str("a"), section("\x08\x00\x01x\x08\x00\x01x")), prot},
	{"correlation data twice", V5, raw(0x30, str("a"), section("\x09\x00\x01x\x09\x00\x01x")), prot},
	{"correlation data cut", V5, raw(0x30, str("a"), section("\x09\x00\x02x")), mal},
	{"subscription id 0", V5, raw(0x30, str("a"), section("\x0B\x00")), prot},
	{"subscription id too long", V5, raw(0x30, str("a"), section("\x0B\xff\xff\xff\xff\x01")), mal},
	{"user property key not UTF-8", V5, raw(0x30, str("a"), section("\x26\x00\x01\xff\x00\x01v")), mal},
	{"session expiry", V5, raw(0x30, str("a"), section("\x11\x00\x00\x00\x01")), mal},
	{"error after split", V5, raw(0x30, str("a"), section(u1+"\x23\x00\x01"+u1+"\x23\x00\x01")), prot},
}

var badAcks = []badPacket{
	{"puback empty", V311, raw(0x40), mal},
	{"puback one byte", V311, raw(0x40, "\x00"), mal},
	{"puback id 0", V311, raw(0x40, "\x00\x00"), prot},
	{"pubrel id 0", V5, raw(0x62, "\x00\x00"), prot},
	{"puback long 3.1.1", V311, raw(0x40, id1, "\x00"), mal},
	{"pubcomp long 3.1", V31, raw(0x70, id1, "\x00"), mal},
	{"puback code", V5, raw(0x40, id1, "\x01"), prot},
	{"puback code of pubrel", V5, raw(0x40, id1, "\x92"), prot},
	{"pubrec code", V5, raw(0x50, id1, "\x81"), prot},
	{"pubrel code", V5, raw(0x62, id1, "\x80"), prot},
	{"pubcomp code", V5, raw(0x70, id1, "\xff"), prot},
	{"puback properties cut", V5, raw(0x40, id1, "\x00\x05\x1f"), mal},
	{"puback bytes left", V5, raw(0x40, id1, "\x00\x00x"), mal},
	{"puback reason twice", V5, raw(0x40, id1, "\x00", section("\x1f\x00\x01a\x1f\x00\x01a")), prot},
	{"puback foreign property", V5, raw(0x40, id1, "\x00", section("\x01\x01")), mal},
	{"connack empty", V311, raw(0x20), mal},
	{"connack short", V311, raw(0x20, "\x00"), mal},
	{"connack flags", V311, raw(0x20, "\x02\x00"), mal},
	{"connack session present with error", V311, raw(0x20, "\x01\x05"), prot},
	{"connack return code 6", V311, raw(0x20, "\x00\x06"), prot},
	{"connack code", V5, raw(0x20, "\x00\x01\x00"), prot},
	{"connack no properties", V5, raw(0x20, "\x00\x00"), mal},
	{"connack bytes left", V311, raw(0x20, "\x00\x00\x00"), mal},
	{"connack bytes left 5", V5, raw(0x20, "\x00\x00\x00\x00"), mal},
	{"connack maximum qos 2", V5, raw(0x20, "\x00\x00", section("\x24\x02")), prot},
	{"connack retain available 2", V5, raw(0x20, "\x00\x00", section("\x25\x02")), prot},
	{"connack receive maximum 0", V5, raw(0x20, "\x00\x00", section("\x21\x00\x00")), prot},
	{"connack maximum packet size 0", V5, raw(0x20, "\x00\x00", section("\x27\x00\x00\x00\x00")), prot},
	{"connack will delay", V5, raw(0x20, "\x00\x00", section("\x18\x00\x00\x00\x00")), mal},
	{"suback no codes", V311, raw(0x90, id1), prot},
	{"suback code 3", V311, raw(0x90, id1, "\x03"), prot},
	{"suback code of 5", V311, raw(0x90, id1, "\x87"), prot},
	{"suback code", V5, raw(0x90, id1, "\x00", "\x11"), prot},
	{"suback id 0", V5, raw(0x90, "\x00\x00", "\x00", "\x01"), prot},
	{"unsuback long 3.1.1", V311, raw(0xB0, id1, "\x00"), mal},
	{"unsuback short", V311, raw(0xB0, "\x01"), mal},
	{"unsuback no codes", V5, raw(0xB0, id1, "\x00"), prot},
	{"unsuback code", V5, raw(0xB0, id1, "\x00", "\x01"), prot},
	{"unsuback no properties", V5, raw(0xB0, id1), mal},
}

var badRequests = []badPacket{
	{"subscribe empty", V311, raw(0x82), mal},
	{"subscribe no filter", V311, raw(0x82, id1), prot},
	{"subscribe no filter 5", V5, raw(0x82, id1, "\x00"), prot},
	{"subscribe id 0", V311, raw(0x82, "\x00\x00", str("a"), "\x00"), prot},
	{"subscribe no options", V311, raw(0x82, id1, str("a")), mal},
	{"subscribe filter cut", V311, raw(0x82, id1, "\x00\x04a"), mal},
	{"subscribe filter empty", V311, raw(0x82, id1, str(""), "\x00"), prot},
	{"subscribe filter NUL", V311, raw(0x82, id1, str("\x00"), "\x00"), mal},
	{"subscribe filter not UTF-8", V5, raw(0x82, id1, "\x00", str("\xfe"), "\x00"), mal},
	{"subscribe second filter bad", V311, raw(0x82, id1, str("a"), "\x00", "\x00"), mal},
	{"subscribe qos 3", V311, raw(0x82, id1, str("a"), "\x03"), mal},
	{"subscribe qos 3 in 5", V5, raw(0x82, id1, "\x00", str("a"), "\x03"), prot},
	{"subscribe reserved 3.1.1", V311, raw(0x82, id1, str("a"), "\x04"), mal},
	{"subscribe reserved", V5, raw(0x82, id1, "\x00", str("a"), "\x40"), mal},
	{"subscribe reserved high", V5, raw(0x82, id1, "\x00", str("a"), "\x80"), mal},
	{"subscribe retain handling 3", V5, raw(0x82, id1, "\x00", str("a"), "\x30"), prot},
	{"subscribe no local shared", V5, raw(0x82, id1, "\x00", str("$share/g/a"), "\x04"), prot},
	{"subscribe id property 0", V5, raw(0x82, id1, section("\x0B\x00"), str("a"), "\x00"), prot},
	{"subscribe id property twice", V5, raw(0x82, id1, section("\x0B\x01\x0B\x02"), str("a"), "\x00"), prot},
	{"subscribe foreign property", V5, raw(0x82, id1, section("\x1F\x00\x00"), str("a"), "\x00"), mal},
	{"unsubscribe empty", V311, raw(0xA2), mal},
	{"unsubscribe no filter", V311, raw(0xA2, id1), prot},
	{"unsubscribe no filter 5", V5, raw(0xA2, id1, "\x00"), prot},
	{"unsubscribe id 0", V5, raw(0xA2, "\x00\x00\x00", str("a")), prot},
	{"unsubscribe filter cut", V311, raw(0xA2, id1, "\x00\x02a"), mal},
	{"unsubscribe filter empty", V311, raw(0xA2, id1, str("")), prot},
	{"unsubscribe foreign property", V5, raw(0xA2, id1, section("\x0B\x01"), str("a")), mal},
	{"disconnect body 3.1.1", V311, raw(0xE0, "\x00"), mal},
	{"disconnect code", V5, raw(0xE0, "\x01"), prot},
	{"disconnect properties cut", V5, raw(0xE0, "\x00\x01"), mal},
	{"disconnect bytes left", V5, raw(0xE0, "\x00\x00\x00"), mal},
	{"disconnect foreign property", V5, raw(0xE0, "\x00", section("\x15\x00\x00")), mal},
	{"auth 3.1.1", V311, raw(0xF0), mal},
	{"auth code", V5, raw(0xF0, "\x80\x00"), prot},
	{"auth without properties", V5, raw(0xF0, "\x18"), mal},
	{"auth without method", V5, raw(0xF0, "\x18\x00"), prot},
	{"auth success without method", V5, raw(0xF0, "\x00", section(u1)), prot},
	{"auth method twice", V5, raw(0xF0, "\x18", section("\x15\x00\x01m\x15\x00\x01m")), prot},
	{"auth bytes left", V5, raw(0xF0, "\x18", section("\x15\x00\x01m"), "x"), mal},
}

func TestMalformed(t *testing.T) {
	for group, list := range map[string][]badPacket{
		"frame": badFrames, "connect": badConnects, "publish": badPublishes, "answer": badAcks, "request": badRequests,
	} {
		for _, tt := range list {
			t.Run(group+"/"+tt.name, func(t *testing.T) {
				p, err := parse([]byte(tt.packet), tt.v)
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("decoded %+v, %v", p, err)
				}
				if e.Code != tt.code {
					t.Errorf("got %v (%s), want %v", e.Code, e.Msg, tt.code)
				}
				if p != nil {
					t.Error("a packet came with the error")
				}
				if !strings.ContainsAny(e.Msg, "[(") || !strings.Contains(e.Msg, ": ") {
					t.Errorf("message names no field or no clause: %s", e.Msg)
				}
			})
		}
	}
}

// Every proper prefix of a good body is refused or is a shorter good packet;
// none may panic.
func TestTruncated(t *testing.T) {
	for _, v := range versions {
		for _, p := range packets(v) {
			h, body, _, err := Frame(p.Append(nil, v), MaxPacketSize)
			if err != nil {
				t.Fatal(err)
			}
			for i := range min(len(body), 400) {
				h.Length = uint32(i)
				_, _ = Decode(h, body[:i:i], v)
			}
		}
	}
}
