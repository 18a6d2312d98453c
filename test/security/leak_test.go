package security

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Nobody learns from topics, refusals or errors that another organisation, its
// devices, users, clients or topics exist; nor does the log hold a secret or
// what a message said.
func TestNamesOfOthersLeak(t *testing.T) {
	s := start(t)
	h, other := s.house(), s.house()
	s.api.Call(http.MethodPatch, "/orgs/"+other.id, map[string]string{"name": "hidden-house"}, nil)
	secretName := "hidden-thermometer"
	victim := other.user(secretName)
	v := s.connect(t, named(victim.packet(), "hidden-client"))
	v.subscribe(1, "hidden-topic/#")
	v.publish("hidden-topic/now", "hidden-payload", true)

	ann := h.user("ann")
	c := s.connect(t, ann.packet())
	var seen strings.Builder
	note := func(p mqtt.Packet) {
		switch p := p.(type) {
		case *mqtt.Publish:
			seen.Write(p.Topic)
			seen.Write(p.Payload)
		case nil:
		default:
			seen.Write(p.Append(nil, mqtt.V5)) // with all its properties
		}
	}
	// Whatever may be subscribed to, among it what other brokers tell of themselves.
	for _, f := range []string{"#", "+/#", "$SYS/#", "$SYS/broker/clients/#", "$SYS/brokers/+/clients/#", "$share/g/$SYS/#", "$queue/#",
		"$delayed/#", "$events/#", "$CONTROL/#", other.id + "/#", "$" + other.id + "/#"} {
		c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: f, QoS: 1}}})
		note(c.next())
	}
	for _, m := range c.ping() {
		note(m)
	}
	for _, topic := range []string{"$SYS/broker/clients/total", "$CONTROL/dynamic-security/v1", other.id + "/x"} {
		c.send(&mqtt.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1, PacketID: 5})
		note(c.next())
	}
	for _, m := range c.ping() {
		note(m)
	}
	// A refusal is the same for a name that exists and for one that does not, but
	// for its number, which is drawn for each name and says nothing of it.
	number := regexp.MustCompile(`\(refusal [a-z0-9]{12}\)`)
	refusal := func(p *mqtt.Connect) string {
		c := s.dial(t, nil)
		c.send(p)
		answer := c.next()
		if answer == nil {
			t.Fatalf("%s: no answer", p.ClientID)
		}
		b := answer.Append(nil, mqtt.V5) // as it came, with the reason string
		seen.Write(b)
		return number.ReplaceAllString(string(b), "(refusal)")
	}
	for _, pair := range [][2]login{
		{{"x", other.id + "/" + secretName, "wrong"}, {"x", other.id + "/nobody", "wrong"}},
		{{"x", other.id + "/" + secretName, "wrong"}, {"x", "zzzzzz/" + secretName, "wrong"}},
		{{"hidden-client", other.id + "/" + secretName, ""}, {"y", other.id + "/nobody", ""}},
		{{s.ours.asDevice().client, "use-token-auth", "wrong"}, {"d:" + s.ours.id + ":sensor:nobody", "use-token-auth", "wrong"}},
		{{s.ours.asApp().client, s.ours.key, "wrong"}, {s.ours.asApp().client, "a-" + s.ours.id + "-0000000000", "wrong"}},
	} {
		if a, b := refusal(pair[0].packet()), refusal(pair[1].packet()); a != b {
			t.Errorf("%s and %s are told apart:\n%q\n%q", pair[0].user, pair[1].user, a, b)
		}
	}
	web := s.web(t)
	for _, path := range []string{"/orgs/" + other.id, "/orgs/" + other.id + "/users", "/orgs/" + other.id + "/users/" + secretName,
		"/orgs/" + other.id + "/limits", "/orgs/" + other.id + "/limit-events", "/orgs", "/audit", "/metrics", "/openapi.json"} {
		for _, auth := range []string{"", basic(s.ours.key, s.ours.token), basic(other.id+"/"+secretName, victim.password)} {
			_, body := web.do(http.MethodGet, path, auth, "")
			seen.WriteString(strings.ReplaceAll(body, other.id, "")) // it is in the question
		}
	}
	for _, word := range []string{secretName, "hidden-house", "hidden-client", "hidden-topic", "hidden-payload"} {
		if n := strings.Count(seen.String(), word); n > 0 {
			t.Errorf("%q was seen %d times", word, n)
		}
	}
	for _, word := range []string{"hidden-payload", victim.password, ann.password, s.ours.token, s.ours.device} {
		if strings.Contains(s.Log(), word) {
			t.Errorf("the log holds %q", word)
		}
	}
}
