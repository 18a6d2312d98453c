package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

// keepmq is our server, at its defaults but for what config sets: a
// configuration file for a row that measures more than the defaults allow.
type keepmq struct{ path, config string }

func newKeepMQ(path string) (keepmq, error) {
	if _, err := os.Stat(path); err != nil {
		return keepmq{}, fmt.Errorf("%s is not there: run make build, or choose other -peers", path)
	}
	abs, err := filepath.Abs(path)
	return keepmq{path: abs}, err
}

func (keepmq) Name() string { return "KeepMQ" }
func (keepmq) Queues() bool { return true }

func (k keepmq) About(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, k.path, "version").Output()
	version, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(version + " at its defaults: user and password, permission checks, audit record; fsync before PUBACK where a message is kept")
}

// started is the line a server prints when it is ready. The code is there on
// the first start only.
type started struct {
	MQTTPort  int    `json:"mqtt_port"`
	HTTPSPort int    `json:"https_port"`
	CAFile    string `json:"ca_file"`
	LoginCode string `json:"login_code"`
}

func (k keepmq) Start(ctx context.Context, dir string) (*Broker, error) {
	proc, s, err := k.serve(ctx, dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{Peer: k, proc: proc}
	if err := k.prepare(ctx, b, s); err != nil {
		proc.stop()
		return nil, fmt.Errorf("prepare KeepMQ: %w: %s", err, proc.log)
	}
	b.again = func(ctx context.Context) error {
		var s started
		if b.proc, s, err = k.serve(ctx, dir); err != nil {
			return err
		}
		b.Addr, b.api.base = s.mqtt(), s.api()
		return nil
	}
	return b, nil
}

// serve runs the server on the data of dir until it is ready.
func (k keepmq) serve(ctx context.Context, dir string) (*process, started, error) {
	var s started
	args := []string{"serve", "--data", filepath.Join(dir, "data"), "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--json"}
	if k.config != "" {
		file := filepath.Join(dir, "keepmq.yaml")
		if err := os.WriteFile(file, []byte(k.config), 0o600); err != nil {
			return nil, s, fmt.Errorf("write configuration: %w", err)
		}
		args = append(args, "--config", file)
	}
	cmd := exec.Command(k.path, args...)
	cmd.Dir = dir
	out, first := firstLine()
	cmd.Stdout = out
	proc, err := launch(cmd)
	if err != nil {
		return nil, s, err
	}
	err = proc.await(ctx, func(ctx context.Context) error {
		l, err := first(ctx)
		if err != nil {
			return err
		}
		return json.Unmarshal(l, &s)
	})
	return proc, s, err
}

func (s started) mqtt() string { return fmt.Sprintf("127.0.0.1:%d", s.MQTTPort) }
func (s started) api() string  { return fmt.Sprintf("https://localhost:%d/api/v1", s.HTTPSPort) }

// prepare makes an organisation with free topics and one user for all load.
func (keepmq) prepare(ctx context.Context, b *Broker, s started) error {
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("no certificate in %s", s.CAFile)
	}
	b.Addr, b.TLS = s.mqtt(), clientTLS(&tls.Config{RootCAs: pool})
	a := &api{base: s.api(), client: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: b.TLS},
	}}
	b.api, b.rootFile = a, s.CAFile
	b.devices = func(ctx context.Context, n int) ([]login, error) { return enrolDevices(ctx, b, n) }
	var in struct{ Token string }
	if err := a.post(ctx, "/sign-in", map[string]string{"code": s.LoginCode}, &in); err != nil {
		return err
	}
	a.token = secret.New(in.Token)
	var org struct{ ID string }
	if err := a.post(ctx, "/orgs", map[string]string{"name": "bench", "profile": "plain"}, &org); err != nil {
		return err
	}
	var user struct{ Username, Password string }
	if err := a.post(ctx, "/orgs/"+org.ID+"/users", map[string]string{"name": "load"}, &user); err != nil {
		return err
	}
	b.Username, b.Password, b.org = user.Username, secret.New(user.Password), org.ID
	return b.accepts(ctx)
}

// api is a caller of the server's REST API.
type api struct {
	base   string
	token  secret.String
	client *http.Client
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

func (a *api) post(ctx context.Context, path string, in, out any) error {
	return a.call(ctx, http.MethodPost, path, in, out)
}

func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if t := a.token.Reveal(); t != "" {
		r.Header.Set("Authorization", "Bearer "+t)
	}
	answer, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, b)
	}
	return json.Unmarshal(b, out)
}
