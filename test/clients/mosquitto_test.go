package clients

import (
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// mosquitto returns the command line of a Mosquitto client.
func (s *site) mosquitto(t *testing.T, tool string, a account, args ...string) *exec.Cmd {
	t.Helper()
	need(t, tool, "stdbuf")
	all := []string{"-oL", tool, "--cafile", s.CAFile, "-h", "localhost", "-p", strconv.Itoa(s.MQTTPort), "-u", a.User, "-P", a.Password}
	if a.Client != "" {
		all = append(all, "-i", a.Client)
	}
	return exec.Command("stdbuf", append(all, args...)...)
}

// pub publishes and returns the exit code and the output.
func (s *site) pub(t *testing.T, a account, args ...string) (code int, out string) {
	t.Helper()
	code, lines := spawn(t, s.mosquitto(t, "mosquitto_pub", a, args...)).exit()
	return code, strings.Join(lines, "\n")
}

func (s *site) mustPub(t *testing.T, a account, args ...string) {
	t.Helper()
	if code, out := s.pub(t, a, args...); code != 0 {
		t.Fatalf("mosquitto_pub %s: exit code %d: %s", args, code, out)
	}
}

// sub starts a subscriber that prints "= topic|qos|retained|payload" of each
// message, and returns when the server has accepted its subscriptions.
func (s *site) sub(t *testing.T, a account, args ...string) *process {
	t.Helper()
	p := spawn(t, s.mosquitto(t, "mosquitto_sub", a, append([]string{"-d", "-F", "= %t|%q|%r|%p"}, args...)...))
	p.line("Subscribed ")
	return p
}

func TestMosquitto(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, test := range map[string]func(*testing.T, *site, string){
		"events": mosquittoEvents, "commands": mosquittoCommands, "refusals": mosquittoRefusals,
		"retained": mosquittoRetained, "wills": mosquittoWills, "sessions": mosquittoSessions,
		"shared": mosquittoShared, "organisations": mosquittoOrganisations,
		"patterns": mosquittoPatterns, "registration": mosquittoRegistration,
	} {
		for version, flag := range map[string]string{"3.1.1": "mqttv311", "5": "mqttv5"} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				test(t, s, flag)
			})
		}
	}
	t.Run("properties", func(t *testing.T) { t.Parallel(); mosquittoProperties(t, s) })
	t.Run("3.1", func(t *testing.T) {
		t.Parallel()
		o := s.org(t, "iot-2")
		device := o.sensors(t, "one")[0]
		app := s.sub(t, o.app(t, "app1"), "-V", "mqttv311", "-q", "1", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
		s.mustPub(t, device, "-V", "mqttv31", "-q", "1", "-t", "iot-2/evt/e/fmt/text", "-m", "old")
		same(t, "received", app.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/text|1|0|old")
	})
}

func mosquittoEvents(t *testing.T, s *site, version string) {
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one")[0]
	app := s.sub(t, o.app(t, "app1"), "-V", version, "-q", "2", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
	for qos := range 3 {
		s.mustPub(t, device, "-V", version, "-q", strconv.Itoa(qos), "-t", "iot-2/evt/status/fmt/json", "-m", fmt.Sprintf(`{"qos":%d}`, qos))
		same(t, "received", app.line("= "), fmt.Sprintf(`iot-2/type/sensor/id/one/evt/status/fmt/json|%d|0|{"qos":%[1]d}`, qos))
	}
	// Retained messages are the platform's own: the flag is taken off, or refused.
	code, out := s.pub(t, device, "-V", version, "-q", "1", "-r", "-t", "iot-2/evt/status/fmt/json", "-m", "keep")
	if version == "mqttv311" {
		same(t, "exit code of a retained event: "+out, code, 0)
		same(t, "received", app.line("= "), "iot-2/type/sensor/id/one/evt/status/fmt/json|1|0|keep")
	} else if code == 0 {
		same(t, "received", app.line("= "), "iot-2/type/sensor/id/one/evt/status/fmt/json|1|0|keep")
	}
	late := s.sub(t, o.app(t, "late"), "-V", version, "-q", "1", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
	s.mustPub(t, device, "-V", version, "-q", "1", "-t", "iot-2/evt/status/fmt/json", "-m", "next")
	same(t, "first message of a late subscriber", late.line("= "), "iot-2/type/sensor/id/one/evt/status/fmt/json|1|0|next")
}

// A device sees its own commands, under its own name for them, and no other's.
func mosquittoCommands(t *testing.T, s *site, version string) {
	o := s.org(t, "iot-2")
	devices, app := o.sensors(t, "one", "two"), o.app(t, "app1")
	one := s.sub(t, devices[0], "-V", version, "-q", "2", "-t", "iot-2/cmd/+/fmt/+")
	two := s.sub(t, devices[1], "-V", version, "-q", "2", "-t", "iot-2/cmd/+/fmt/+")
	for qos := range 3 {
		q := strconv.Itoa(qos)
		s.mustPub(t, app, "-V", version, "-q", q, "-t", "iot-2/type/sensor/id/two/cmd/blink/fmt/json", "-m", "2:"+q)
		same(t, "received by two", two.line("= "), "iot-2/cmd/blink/fmt/json|"+q+"|0|2:"+q)
		s.mustPub(t, app, "-V", version, "-q", q, "-t", "iot-2/type/sensor/id/one/cmd/blink/fmt/json", "-m", "1:"+q)
		same(t, "received by one", one.line("= "), "iot-2/cmd/blink/fmt/json|"+q+"|0|1:"+q) // and no "2:"
	}
	for _, filter := range []string{"#", "iot-2/#", "iot-2/type/+/id/+/cmd/+/fmt/+", "iot-2/type/sensor/id/two/cmd/+/fmt/+", "iot-2/evt/+/fmt/+"} {
		nosy := devices[0]
		p := spawn(t, s.mosquitto(t, "mosquitto_sub", nosy, "-d", "-V", version, "-q", "1", "-t", filter))
		line := p.line("Subscribed ")
		if want := map[string]string{"mqttv311": ": 128", "mqttv5": ": 135"}[version]; !strings.HasSuffix(line, want) {
			t.Errorf("subscribe to %s: got %q, want it to end in %q", filter, line, want)
		}
		p.kill()
	}
}

func mosquittoRefusals(t *testing.T, s *site, version string) {
	o := s.org(t, "iot-2")
	device, app := o.sensors(t, "one")[0], o.app(t, "app1")
	other := o.device(t, "sensor", "other", "")
	with := func(a account, change func(*account)) account { change(&a); return a }
	for name, a := range map[string]account{
		"wrong token":           with(device, func(a *account) { a.Password += "x" }),
		"another's token":       with(device, func(a *account) { a.Password = other.Password }),
		"unknown device":        with(device, func(a *account) { a.Client = "d:" + o.id + ":sensor:none" }),
		"unknown organisation":  with(device, func(a *account) { a.Client = "d:zzzzzz:sensor:one" }),
		"another client id":     with(device, func(a *account) { a.Client = "mosq" }),
		"gateway of a device":   with(device, func(a *account) { a.Client = "g:" + o.id + ":sensor:one" }),
		"another user name":     with(device, func(a *account) { a.User = "token" }),
		"wrong key":             with(app, func(a *account) { a.User += "x" }),
		"wrong token of a key":  with(app, func(a *account) { a.Password += "x" }),
		"application of others": with(app, func(a *account) { a.Client = "a:" + s.Org + ":app1" }),
	} {
		code, out := s.pub(t, a, "-V", version, "-q", "1", "-t", "iot-2/evt/e/fmt/json", "-m", "x")
		want, message := 5, "not authorised"
		if version == "mqttv5" {
			want, message = 0x86, "Bad User Name or Password"
		}
		if code != want || !strings.Contains(strings.ToLower(out), strings.ToLower(message)) {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, want, out)
		}
	}
	// A device may not speak for another, nor as the application.
	for _, topic := range []string{"iot-2/type/sensor/id/other/evt/e/fmt/json", "iot-2/type/sensor/id/one/cmd/e/fmt/json", "other"} {
		if code, out := s.pub(t, device, "-V", version, "-q", "1", "-t", topic, "-m", "x"); version == "mqttv5" && !strings.Contains(out, "Not authorized") && code == 0 {
			t.Errorf("publish to %s: exit code %d: %s", topic, code, out)
		}
	}
	watch := s.sub(t, app, "-V", version, "-q", "1", "-t", "iot-2/type/+/id/+/evt/+/fmt/+", "-t", "iot-2/type/+/id/+/cmd/+/fmt/+")
	s.pub(t, device, "-V", version, "-q", "1", "-t", "iot-2/type/sensor/id/other/evt/e/fmt/json", "-m", "forged")
	s.mustPub(t, device, "-V", version, "-q", "1", "-t", "iot-2/evt/e/fmt/json", "-m", "own")
	same(t, "received", watch.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/json|1|0|own")
}

func mosquittoRetained(t *testing.T, s *site, version string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	live := s.sub(t, a, "-V", version, "-q", "1", "-t", "house/#")
	s.mustPub(t, a, "-V", version, "-q", "1", "-r", "-t", "house/hall", "-m", "21.5")
	same(t, "live", live.line("= "), "house/hall|1|0|21.5")
	same(t, "kept", s.sub(t, a, "-V", version, "-q", "1", "-t", "house/+").line("= "), "house/hall|1|1|21.5")
	s.mustPub(t, a, "-V", version, "-q", "1", "-r", "-n", "-t", "house/hall")
	s.mustPub(t, a, "-V", version, "-q", "1", "-r", "-t", "house/attic", "-m", "9")
	same(t, "after clearing", s.sub(t, a, "-V", version, "-q", "1", "-t", "house/hall", "-t", "house/attic").line("= "), "house/attic|1|1|9")
}

// The will of a client that is cut off is published, that of one that says
// goodbye is not.
func mosquittoWills(t *testing.T, s *site, version string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	watch := s.sub(t, a, "-V", version, "-q", "2", "-t", "gone/#")
	client := func(name string, more ...string) *process {
		b := a
		b.Client = name
		return s.sub(t, b, append([]string{"-V", version, "-t", "x", "--will-topic", "gone/" + name, "--will-payload", "cut", "--will-qos", "2"}, more...)...)
	}
	polite := client("polite", "-C", "1")
	s.mustPub(t, a, "-V", version, "-t", "x", "-m", "go")
	if code, out := polite.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	client("cut").kill()
	same(t, "received", watch.line("= "), "gone/cut|2|0|cut")
	client("kept", "--will-retain").kill()
	same(t, "received", watch.line("= "), "gone/kept|2|0|cut")
	same(t, "kept", s.sub(t, a, "-V", version, "-q", "2", "-t", "gone/#").line("= "), "gone/kept|2|1|cut")
}

// What arrives while a persistent session is away waits for it, in order.
func mosquittoSessions(t *testing.T, s *site, version string) {
	o := s.org(t, "iot-2")
	device, app := o.sensors(t, "one")[0], o.app(t, "app1")
	keep := []string{"-V", version, "-c", "-q", "2", "-t", "iot-2/type/+/id/+/evt/+/fmt/+"}
	if version == "mqttv5" {
		keep = append(keep, "-x", "600")
	}
	first := s.sub(t, app, keep...)
	s.mustPub(t, device, "-V", version, "-q", "1", "-t", "iot-2/evt/e/fmt/text", "-m", "live")
	same(t, "live", first.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/text|1|0|live")
	first.kill()
	for i := range 6 {
		s.mustPub(t, device, "-V", version, "-q", strconv.Itoa(1+i%2), "-t", "iot-2/evt/e/fmt/text", "-m", strconv.Itoa(i))
	}
	again := spawn(t, s.mosquitto(t, "mosquitto_sub", app, append(keep, "-C", "6", "-F", "= %q|%p")...))
	kept := map[string]string{} // by quality of service, within which the order is kept
	for range 6 {
		qos, payload, _ := strings.Cut(again.line("= "), "|")
		kept[qos] += payload
	}
	same(t, "kept", kept, map[string]string{"1": "024", "2": "135"})
	if code, out := again.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	// A clean start throws away what the session has.
	s.mustPub(t, device, "-V", version, "-q", "1", "-t", "iot-2/evt/e/fmt/text", "-m", "thrown away")
	clean := s.sub(t, app, "-V", version, "-q", "2", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
	s.mustPub(t, device, "-V", version, "-q", "1", "-t", "iot-2/evt/e/fmt/text", "-m", "new")
	same(t, "after a clean start", clean.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/text|1|0|new")
}

// Each message to a shared subscription goes to one of its members.
func mosquittoShared(t *testing.T, s *site, version string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	const n = 40
	var members []*process
	for range 2 {
		members = append(members, s.sub(t, a, "-V", version, "-q", "1", "-t", "$share/workers/job/+", "-t", "done"))
	}
	all := s.sub(t, a, "-V", version, "-q", "1", "-t", "job/+")
	lines := exec.Command("seq", strconv.Itoa(n))
	in, err := lines.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pub := s.mosquitto(t, "mosquitto_pub", a, "-V", version, "-q", "1", "-t", "job/a", "-l")
	pub.Stdin = in
	if err := lines.Start(); err != nil {
		t.Fatal(err)
	}
	if code, out := spawn(t, pub).exit(); code != 0 {
		t.Fatalf("mosquitto_pub: exit code %d: %s", code, out)
	}
	_ = lines.Wait()
	for i := range n {
		same(t, "received by everybody", all.line("= "), fmt.Sprintf("job/a|1|0|%d", i+1))
	}
	s.mustPub(t, a, "-V", version, "-q", "1", "-t", "done", "-m", "done")
	seen := map[string]int{}
	for i, m := range members {
		count := 0
		for line := m.line("= "); !strings.HasPrefix(line, "done|"); line = m.line("= ") {
			seen[line]++
			count++
		}
		if count == 0 || count == n {
			t.Errorf("member %d received %d of %d", i, count, n)
		}
	}
	for i := range n {
		if got := seen[fmt.Sprintf("job/a|1|0|%d", i+1)]; got != 1 {
			t.Errorf("message %d was received %d times", i+1, got)
		}
	}
}

// Two organisations that use the same names never see each other.
func mosquittoOrganisations(t *testing.T, s *site, version string) {
	a, b := s.org(t, "iot-2"), s.org(t, "iot-2")
	deviceA, deviceB := a.sensors(t, "one")[0], b.sensors(t, "one")[0]
	appA, appB := a.app(t, "app1"), b.app(t, "app1")
	events := "iot-2/type/+/id/+/evt/+/fmt/+"
	watchA, watchB := s.sub(t, appA, "-V", version, "-q", "1", "-t", events), s.sub(t, appB, "-V", version, "-q", "1", "-t", events)
	ownA, ownB := s.sub(t, deviceA, "-V", version, "-q", "1", "-t", "iot-2/cmd/+/fmt/+"), s.sub(t, deviceB, "-V", version, "-q", "1", "-t", "iot-2/cmd/+/fmt/+")
	for _, from := range []string{"A", "B"} { // were they one, B's would see A's first
		sender := map[string]account{"A": appA, "B": appB}[from]
		sender.Client += "-sender"
		s.mustPub(t, sender, "-V", version, "-q", "1", "-t", "iot-2/type/sensor/id/one/evt/e/fmt/text", "-m", "of "+from)
		s.mustPub(t, sender, "-V", version, "-q", "1", "-t", "iot-2/type/sensor/id/one/cmd/c/fmt/text", "-m", "of "+from)
	}
	for name, p := range map[string]*process{"A": watchA, "B": watchB} {
		same(t, "event seen in "+name, p.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/text|1|0|of "+name)
	}
	for name, p := range map[string]*process{"A": ownA, "B": ownB} {
		same(t, "command seen in "+name, p.line("= "), "iot-2/cmd/c/fmt/text|1|0|of "+name)
	}
	// The token of one is none of the other.
	swapped := deviceA
	swapped.Password = deviceB.Password
	if code, out := s.pub(t, swapped, "-V", version, "-t", "iot-2/evt/e/fmt/text", "-m", "x"); code == 0 {
		t.Errorf("a device of one organisation came in with the token of another: %s", out)
	}
}

// Pattern rules are for all users of an organisation: each has its own place.
func mosquittoPatterns(t *testing.T, s *site, version string) {
	o := s.org(t, "plain")
	rules := []map[string]string{{"action": "publish", "filter": "home/%u/%c/#"}, {"action": "subscribe", "filter": "home/#"}, {"action": "receive", "filter": "home/%u/#"}}
	o.call(t, http.MethodPatch, o.path("/rules"), map[string]any{"rules": rules}, nil)
	ann, bob := o.user(t, "ann"), o.user(t, "bob")
	ann.Client, bob.Client = "ann", "bob"
	watch := ann
	watch.Client = "screen" // not one of ann's: it may read, for %u is all that needs
	p := s.sub(t, watch, "-V", version, "-q", "1", "-t", "home/#")
	s.mustPub(t, bob, "-V", version, "-q", "1", "-t", "home/bob/bob/x", "-m", "bob's")
	s.pub(t, bob, "-V", version, "-q", "1", "-t", "home/ann/ann/x", "-m", "forged")
	as := bob
	as.Client = "ann"
	s.pub(t, as, "-V", version, "-q", "1", "-t", "home/bob/ann/x", "-m", "forged")
	s.mustPub(t, ann, "-V", version, "-q", "1", "-t", "home/ann/ann/x", "-m", "ann's")
	same(t, "received", p.line("= "), "home/ann/ann/x|1|0|ann's")
}

// A gateway that may do so makes devices known by speaking for them.
func mosquittoRegistration(t *testing.T, s *site, version string) {
	o := s.org(t, "iot-2")
	o.sensors(t)
	o.call(t, http.MethodPost, o.path("/types"), map[string]string{"id": "hubs", "class": "Gateway"}, nil)
	var made struct {
		Client string `json:"client_id"`
		Token  string
	}
	o.call(t, http.MethodPost, o.path("/devices"), map[string]any{"type": "hubs", "id": "hub", "registers": true}, &made)
	hub, app := account{made.Client, "use-token-auth", made.Token}, o.app(t, "app1")
	watch := s.sub(t, app, "-V", version, "-q", "1", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
	for qos := range 3 {
		name := fmt.Sprintf("iot-2/type/sensor/id/new-%d/evt/e/fmt/text", qos)
		s.mustPub(t, hub, "-V", version, "-q", strconv.Itoa(qos), "-t", name, "-m", "hello")
		same(t, "received", watch.line("= "), fmt.Sprintf("%s|%d|0|hello", name, min(qos, 1)))
	}
	gateway := s.sub(t, hub, "-V", version, "-q", "1", "-t", "iot-2/type/sensor/id/told/cmd/+/fmt/+")
	app.Client = "a:" + o.id + ":app2"
	s.mustPub(t, app, "-V", version, "-q", "1", "-t", "iot-2/type/sensor/id/told/cmd/blink/fmt/text", "-m", "go")
	same(t, "command", gateway.line("= "), "iot-2/type/sensor/id/told/cmd/blink/fmt/text|1|0|go")
	var list struct {
		Items []struct{ ID string }
	}
	o.call(t, http.MethodGet, o.path("/devices?gateway=hubs:hub"), nil, &list)
	same(t, "devices of the gateway", list.Items, "[{new-0} {new-1} {new-2} {told}]")
}

func mosquittoProperties(t *testing.T, s *site) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	p := spawn(t, s.mosquitto(t, "mosquitto_sub", a, "-d", "-V", "mqttv5", "-q", "1", "-t", "ask/+", "-D", "subscribe", "subscription-identifier", "7",
		"-F", "= %C|%D|%F|%P|%R|%S|%p"))
	p.line("Subscribed ")
	s.mustPub(t, a, "-V", "mqttv5", "-q", "1", "-t", "ask/a", "-m", "hello", "-D", "publish", "content-type", "text/plain",
		"-D", "publish", "correlation-data", "no. 1", "-D", "publish", "payload-format-indicator", "1", "-D", "publish", "response-topic", "answer/a",
		"-D", "publish", "user-property", "colour", "blue")
	same(t, "received", p.line("= "), "text/plain|no. 1|1|colour:blue|answer/a|7|hello")
}
