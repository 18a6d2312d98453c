package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keepmq/keepmq/internal/node"
)

// A welcome is what a person, or a program with --json, needs to know of a
// server that has started. The secrets are there after the first start only.
type welcome struct {
	MQTTPort    int                 `json:"mqtt_port"`
	HTTPSPort   int                 `json:"https_port"`
	CAFile      string              `json:"ca_file"`
	ConsoleURL  string              `json:"console_url"`
	SignInURL   string              `json:"sign_in_url,omitempty"`
	LoginCode   string              `json:"login_code,omitempty"`
	Org         string              `json:"org"`
	Device      *welcomeDevice      `json:"device,omitempty"`
	Application *welcomeApplication `json:"application,omitempty"`

	edge bool
}

type welcomeDevice struct {
	Type  string `json:"type"`
	ID    string `json:"id"`
	Token string `json:"token"`
}

type welcomeApplication struct {
	Key   string `json:"key"`
	Token string `json:"token"`
}

func newWelcome(n *node.Node) welcome {
	first := n.First()
	w := welcome{
		MQTTPort:   n.MQTTPort(),
		HTTPSPort:  n.HTTPSPort(),
		CAFile:     n.CAFile(),
		ConsoleURL: "https://" + net.JoinHostPort(n.Host(), strconv.Itoa(n.HTTPSPort())) + "/",
		Org:        string(first.Org.ID),
		edge:       n.HasEdge(),
	}
	if code := first.ConsoleCode.Reveal(); code != "" {
		w.SignInURL = w.ConsoleURL + "sign-in/" + code
	}
	w.LoginCode = first.CLICode.Reveal()
	if token := first.DeviceToken.Reveal(); token != "" {
		w.Device = &welcomeDevice{first.Device.Type, first.Device.ID, token}
	}
	if token := first.ApplicationToken.Reveal(); token != "" {
		w.Application = &welcomeApplication{first.Application.Key, token}
	}
	return w
}

// print writes w for a person, or as one line of JSON.
func (w welcome) print(e *env) error {
	if e.json {
		return json.NewEncoder(e.out).Encode(w)
	}
	_, err := io.WriteString(e.out, w.text())
	return err
}

func (w welcome) text() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	host := strings.TrimPrefix(w.ConsoleURL, "https://")
	host, _, _ = net.SplitHostPort(strings.TrimSuffix(host, "/"))
	ca, program := shell(relative(w.CAFile)), shell(self())

	line("")
	line("KeepMQ is running. Stop it with Ctrl-C.")
	line("")
	line("  Console    %s", w.ConsoleURL)
	line("  MQTT       %s:%d  (TLS; WebSocket and HTTPS on the same port)", host, w.MQTTPort)
	line("  CA file    %s", relative(w.CAFile))
	if w.LoginCode == "" && w.Device == nil {
		line("")
		line("A new sign-in link for the console, where you are signed in:  %s console link", program)
		line("")
		return b.String()
	}
	line("")
	line("What follows is shown this once. Keep it to yourself.")
	if w.SignInURL != "" {
		line("")
		line("Sign in to the console, within 24 hours (trust the CA file first, or accept the browser's warning):")
		line("  %s", w.SignInURL)
	}
	if w.LoginCode != "" {
		line("")
		line("Sign in here, in another terminal, and watch what devices send:")
		broker := ""
		if w.MQTTPort != 8883 {
			broker = fmt.Sprintf(" --broker %s:%d", host, w.MQTTPort)
		}
		line("  %s login --server %s%s --ca %s --code %s", program, strings.TrimSuffix(w.ConsoleURL, "/"), broker, ca, w.LoginCode)
		line("  %s sub 'iot-2/type/+/id/+/evt/+/fmt/+'", program)
	}
	if w.Application != nil {
		line("")
		line("The same as an application with an API key:")
		line("  mosquitto_sub --cafile %s -h %s -p %d -i a:%s:my-app -u %s -P %s -v -t 'iot-2/type/+/id/+/evt/+/fmt/+'",
			ca, host, w.MQTTPort, w.Org, w.Application.Key, shell(w.Application.Token))
	}
	if w.Device != nil {
		line("")
		line("Send something as a device:")
		line("  mosquitto_pub --cafile %s -h %s -p %d -i d:%s:%s:%s -u use-token-auth -P %s -q 1 -t iot-2/evt/status/fmt/json -m '{\"celsius\": 21.5}'",
			ca, host, w.MQTTPort, w.Org, w.Device.Type, w.Device.ID, shell(w.Device.Token))
	}
	if w.edge {
		line("")
		line("This machine reads its own sensors as a device of the type edge: its readings are on the console already.")
	}
	line("")
	return b.String()
}

// self returns how this program was called, for lines to be pasted.
func self() string {
	program, err := os.Executable()
	if err != nil {
		return "keepmq"
	}
	if program = relative(program); !strings.Contains(program, "/") {
		program = "./" + program
	}
	return program
}

// relative returns a shorter name for a file below the present folder.
func relative(file string) string {
	dir, err := os.Getwd()
	if err != nil {
		return file
	}
	if r, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(r) {
		return r
	}
	return file
}

// shell quotes a word for a POSIX shell, if it has to be.
func shell(word string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-./:@%+=,", c)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
