package clients

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/test/server"
)

// A household is an organisation of the home profile.
type household struct{ *org }

func (s *site) household(t *testing.T, options map[string]any) household {
	t.Helper()
	var made struct{ ID string }
	s.call(t, http.MethodPost, "/orgs", map[string]any{"name": t.Name(), "profile": "home", "home": options}, &made)
	return household{&org{s, made.ID}}
}

func (h household) member(t *testing.T, name, role string) account {
	t.Helper()
	var made struct{ Username, Password string }
	h.call(t, http.MethodPost, h.path("/users"), map[string]string{"name": name, "role": role}, &made)
	return account{name, made.Username, made.Password}
}

// keep publishes a retained message of a, from a connection of its own.
func (h household) keep(t *testing.T, a account, version, topic, payload string) {
	t.Helper()
	a.Client += "-tool"
	h.mustPub(t, a, "-V", version, "-q", "2", "-r", "-t", topic, "-m", payload)
}

// live starts a client that lasts, with a will.
func (h household) live(t *testing.T, a account, version, will string, more ...string) *process {
	t.Helper()
	args := append([]string{"-V", version, "-q", "2", "--will-topic", will, "--will-retain", "--will-qos", "2"}, more...)
	return h.sub(t, a, args...)
}

// retained returns what an actor finds on a topic that has something.
func (h household) retained(t *testing.T, a account, version, topic string) string {
	t.Helper()
	a.Client += "-look"
	p := h.sub(t, a, "-V", version, "-q", "2", "-t", topic, "-C", "1")
	_, _, rest := cut3(p.line("= "))
	if code, _ := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	return rest
}

func cut3(s string) (topic, flags, payload string) {
	f := strings.SplitN(s, "|", 4)
	return f[0], f[1] + "|" + f[2], f[3]
}

func about(root, provider string) string {
	return fmt.Sprintf(`{"name":"n","type":"lightbulb","features":{"on":{}},"root":%q,"providerID":%q}`, root, provider)
}

// Two providers that are their own devices, a bridge that dies by kill, two
// actors and a stranger.
func TestHousehold(t *testing.T) {
	t.Parallel()
	s := start(t)
	for version, flag := range map[string]string{"3.1.1": "mqttv311", "5": "mqttv5"} {
		for prefixed := range 2 {
			t.Run(version+" "+strconv.Itoa(prefixed), func(t *testing.T) {
				t.Parallel()
				testHousehold(t, s, flag, prefixed == 1)
			})
		}
	}
}

func testHousehold(t *testing.T, s *site, version string, prefixed bool) {
	h := s.household(t, map[string]any{"prefix": prefixed})
	at := ""
	if prefixed {
		at = h.id + "/"
	}
	lamp, tv, hue := h.member(t, "lamp", "provider"), h.member(t, "tv", "provider"), h.member(t, "hue", "bridge")
	phone, screen := h.member(t, "phone", "actor"), h.member(t, "screen", "actor")

	watch := h.sub(t, screen, "-V", version, "-q", "2", "-t", at+"current/+/+/reachable", "-t", at+"current/lamp/reachable")
	lampOn := h.live(t, lamp, version, at+"current/lamp/hall/reachable", "--will-payload", "0", "-t", at+"desired/lamp/#")
	tvOn := h.live(t, tv, version, at+"current/tv/set/reachable", "--will-payload", "0", "-t", at+"desired/#")
	bridge := h.live(t, hue, version, at+"provider/b1", "-t", at+"desired/hue/#")
	h.keep(t, lamp, version, at+"device/d-lamp", about("lamp/hall", ""))
	h.keep(t, tv, version, at+"device/d-tv", about("tv/set", ""))
	h.keep(t, hue, version, at+"provider/b1", `{"name":"Hue"}`)
	var want []string
	for _, id := range []string{"1", "2"} {
		h.keep(t, hue, version, at+"device/d-hue-"+id, about("hue/"+id, "b1"))
		h.keep(t, hue, version, at+"current/hue/"+id+"/reachable", "1")
		same(t, "joined", watch.line("= "), at+"current/hue/"+id+"/reachable|2|0|1")
		want = append(want, at+"current/hue/"+id+"/reachable|2|0|0")
	}
	h.keep(t, tv, version, at+"current/tv/set/reachable", "1")
	same(t, "joined", watch.line("= "), at+"current/tv/set/reachable|2|0|1")

	// Orders go to whom they are for, whatever it has subscribed to.
	for _, to := range []string{"lamp/hall", "tv/set", "hue/1"} {
		h.mustPub(t, phone, "-V", version, "-q", "1", "-t", at+"desired/"+to+"/on", "-m", "1")
	}
	same(t, "ordered", lampOn.line("= "), at+"desired/lamp/hall/on|1|0|1")
	same(t, "ordered", tvOn.line("= "), at+"desired/tv/set/on|1|0|1")
	same(t, "ordered", bridge.line("= "), at+"desired/hue/1/on|1|0|1")

	strangers(t, h, version, at, tv)
	same(t, "the lamp's metadata", h.retained(t, phone, version, at+"device/d-lamp"), about("lamp/hall", ""))

	// The bridge dies: its devices cannot be reached, and nobody else's.
	bridge.kill()
	got := []string{watch.line("= "), watch.line("= ")}
	slices.Sort(got)
	same(t, "after the bridge", got, want)
	tvOn.kill()
	same(t, "after the television", watch.line("= "), at+"current/tv/set/reachable|2|0|0")
	same(t, "kept", h.retained(t, phone, version, at+"current/hue/1/reachable"), "0")
	lampOn.kill()
	same(t, "after the lamp", watch.line("= "), at+"current/lamp/hall/reachable|2|0|0")
}

// strangers tries what must not be.
func strangers(t *testing.T, h household, version, at string, tv account) {
	t.Helper()
	tv.Client = "stranger"
	for _, p := range [][2]string{
		{"current/lamp/hall/on", "1"}, {"device/d-lamp", about("tv/x", "")}, {"device/d-lamp", ""}, {"device/d-new", about("lamp/hall", "")},
		{"provider/b1", ""}, {"desired/lamp/hall/on", "1"},
	} {
		code, out := h.pub(t, tv, "-V", version, "-q", "1", "-r", "-t", at+p[0], "-m", p[1])
		if refused := code != 0 || strings.Contains(out, "Not authorized"); !refused && version == "mqttv5" {
			t.Errorf("%s %q: exit code %d: %s", p[0], p[1], code, out)
		}
	}
	for name, a := range map[string]account{
		"nobody": {"x", h.id + "/nobody", "x"}, "without a name": {"x", h.id + "/", ""}, "of another home": {"x", "zzzzzz/tv", tv.Password},
	} {
		if code, out := h.pub(t, a, "-V", version, "-q", "1", "-t", at+"desired/lamp/hall/on", "-m", "1"); code == 0 {
			t.Errorf("%s: let in: %s", name, out)
		}
	}
	if code, out := spawn(t, exec.Command("mosquitto_pub", "--cafile", h.CAFile, "-h", "localhost", "-p", strconv.Itoa(h.MQTTPort), "-V", version,
		"-u", h.id+"/", "-i", "x", "-t", at+"desired/x", "-m", "1")).exit(); code == 0 {
		t.Errorf("without a name and a password: let in: %s", out)
	}
}

// The server dies with the bridge connected, and so does the bridge: after the
// next start its devices cannot be reached, and they are still its own.
func TestHouseholdAfterCrash(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := server.Start(t, dir)
	s := &site{first, first.SignIn()}
	h := s.household(t, nil)
	hue, eve, phone := h.member(t, "hue", "bridge"), h.member(t, "eve", "bridge"), h.member(t, "phone", "actor")
	const version = "mqttv5"
	bridge := h.live(t, hue, version, "provider/b1", "-t", "desired/hue/#")
	h.keep(t, hue, version, "provider/b1", "{}")
	h.keep(t, hue, version, "device/d1", about("hue/1", "b1"))
	h.keep(t, hue, version, "current/hue/1/reachable", "1")
	first.Kill()
	bridge.kill()

	second := server.Start(t, dir)
	h = household{&org{&site{second, s.api.On(second)}, h.id}}
	watch := h.sub(t, phone, "-V", version, "-q", "2", "-t", "current/hue/1/reachable")
	for state := ""; state != "0"; {
		_, _, state = cut3(watch.line("= "))
	}
	if code, out := h.pub(t, eve, "-V", version, "-q", "1", "-r", "-t", "device/d1", "-m", about("eve/1", "")); !strings.Contains(out, "Not authorized") && code == 0 {
		t.Errorf("after a crash another has the device: exit code %d: %s", code, out)
	}
	h.keep(t, hue, version, "device/d1", about("hue/1", "b2"))
	same(t, "the device", h.retained(t, phone, version, "device/d1"), about("hue/1", "b2"))
}
