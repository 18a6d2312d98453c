package edge

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzSettings reads any bytes as the settings in the agent's folder. Settings
// that pass the checks name servers over TLS and are kept as they were read.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"version":1,"server":"https://h:8443","broker":"h:8883","ca":"","client_id":"d:abc123:t:1"}`))
	f.Add([]byte(`{"version":1,"server":"http://h","broker":"[::1]"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newMemDisk()
		d.live[settingsFile] = &memFile{data: b}
		s, err := loadSettings(d)
		if err != nil {
			return
		}
		if len(b) > maxSettings {
			t.Fatalf("%d bytes are accepted", len(b))
		}
		if _, err := s.check(); err == nil && !strings.HasPrefix(s.Server, "https://") {
			t.Fatalf("the server is %q", s.Server)
		}
		if err := s.save(d); err != nil {
			t.Fatal(err)
		}
		if again, err := loadSettings(d); err != nil || again != s {
			t.Fatalf("%+v becomes %+v, %v", s, again, err)
		}
	})
}

// FuzzRefusal reads any answer of a server that refuses.
func FuzzRefusal(f *testing.F) {
	f.Add(403, []byte(`{"title":"Forbidden","detail":"no"}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		err := refused(code, body)
		if err == nil || err.Error() == "" || status(err) != code {
			t.Fatalf("%d %q: %v", code, body, err)
		}
		var out issued
		_ = json.Unmarshal(body, &out)
	})
}
