package clients

import (
	"fmt"
	"maps"
	"testing"
)

// facts311 is what MQTT.js sees in version 3.1.1, facts5 what it sees in 5 too.
var facts311 = map[string]string{
	"qos": `[["to/bob/x","a0",0,false],["to/alice/x","b0",0,false],["to/bob/x","a1",1,false],["to/alice/x","b1",1,false],
		["to/bob/x","a2",2,false],["to/alice/x","b2",2,false]]`,
	"unsubscribed":              `["to/bob/last","last",1,false]`,
	"large":                     `true`,
	"empty":                     `0`,
	"retained":                  `[["kept/one","1",1,true],["kept/one","live",0,false],["kept/two","live",0,false]]`,
	"will":                      `["will/cut","gone",1,false]`,
	"kept":                      `[["0","2","4"],["1","3","5"]]`,
	"after a clean start":       `["session/x","new",1,false]`,
	"session present":           `[false,true,false]`,
	"takeover":                  `null`,
	"shared":                    `[[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29],true]`,
	"refused":                   `{"wrong password":5,"nobody":5,"another organisation":5,"wrong token":5,"no credentials":5}`,
	"subscriptions of a device": `{"#":128,"iot-2/type/+/id/+/evt/+/fmt/+":128,"iot-2/cmd/+/fmt/+":1}`,
	"iot":                       `[["iot-2/type/sensor/id/one/evt/status/fmt/json","{\"d\":{\"t\":1}}",1,false],["iot-2/cmd/blink/fmt/json","3",2,false]]`,
}

var facts5 = map[string]string{
	"takeover":                  `142`, // 0x8E
	"refused":                   `{"wrong password":134,"nobody":134,"another organisation":134,"wrong token":134,"no credentials":134}`,
	"subscriptions of a device": `{"#":135,"iot-2/type/+/id/+/evt/+/fmt/+":135,"iot-2/cmd/+/fmt/+":1}`,
	"delayed will":              `["will/late","gone",1,false,true,{"contentType":"text/plain","responseTopic":"r","userProperties":{"a":"b"}}]`,
	"will asked for":            `["will/said","gone",1,false]`,
	"properties": `{"payloadFormatIndicator":true,"contentType":"text/plain","responseTopic":"answers/a","correlationData":[0,255,7],
		"userProperties":{"colour":["red","blue"],"size":"9"},"subscriptionIdentifier":42}`,
	"expiry counts down":       `true`,
	"subscription identifiers": `{"subs/x":[1,2],"subs/y":[1,2]}`,
	"retain handling 2":        `["rh","first",1,false]`,
	"retain as published":      `["rh","second",1,true]`,
	"aliases offered":          `true`,
	"aliased":                  `[["alias/one","0"],["alias/one","1"],["alias/one","2"],["alias/one","3"],["alias/two","x"],["alias/one","4"]]`,
	"sent without a topic":     `4`,
	"received with an alias":   `true`,
	"expiry":                   `["long",true]`,
	"expired session":          `false`,
	"request":                  `["4","77"]`,
	"assigned client id":       `true`,
}

func TestMQTTJS(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, version := range []int{4, 5} {
		for _, transport := range []string{"tls", "wss"} {
			t.Run(fmt.Sprintf("%d %s", version, transport), func(t *testing.T) {
				t.Parallel()
				want := maps.Clone(facts311)
				if version == 5 {
					maps.Copy(want, facts5)
				}
				plain, iot := s.org(t, "plain"), s.org(t, "iot-2")
				alice, bob, device := plain.user(t, "alice"), plain.user(t, "bob"), iot.sensors(t, "one")[0]
				node(t, s, map[string]any{
					"version": version, "transport": transport, "alice": alice, "bob": bob, "device": device, "app": iot.app(t, "app1"),
					"refused": map[string]account{
						"wrong password":       {"x", alice.User, bob.Password},
						"nobody":               {"x", plain.id + "/nobody", alice.Password},
						"another organisation": {"x", iot.id + "/alice", alice.Password},
						"wrong token":          {device.Client, device.User, "wrong"},
						"no credentials":       {Client: "x"},
					},
				}, "mqttjs.mjs").check(want)
			})
		}
	}
}
