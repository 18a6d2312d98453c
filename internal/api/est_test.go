package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestEST is a device with curl and openssl and nothing of ours.
func TestEST(t *testing.T) {
	for _, name := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: run scripts/setup-test", name)
		}
	}
	f := start(t)
	dir := t.TempDir()
	sh := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "EST="+f.url+"/.well-known/est")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), f.ask(t, anonymous, "GET", "/api/v1/ca.pem", nil).is(t, 200).body, 0o600))
	var e struct{ Token string }
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+string(f.first.Org.ID)+"/devices/sensor/sensor-1/enrolments", map[string]any{}).is(t, 201).into(t, &e)
	must(t, os.WriteFile(filepath.Join(dir, "basic"), []byte("user = \"any:"+e.Token+"\"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "wrong"), []byte("user = \"any:wrong\"\n"), 0o600))

	sh(`curl -sSf --cacert ca.pem $EST/cacerts | openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out roots.pem
		test $(grep -c BEGIN roots.pem) = 2
		openssl verify -CAfile ca.pem roots.pem
		curl -sSf --cacert ca.pem $EST/csrattrs | openssl base64 -d | openssl asn1parse -inform DER | grep -q prime256v1
		for k in one two; do
			openssl ecparam -name prime256v1 -genkey -noout -out $k.key
			openssl req -new -key $k.key -subj / -outform DER | openssl base64 -out $k.csr
		done
		openssl req -new -key two.key -subj /CN=d:sensor:other -outform DER | openssl base64 -out other.csr`)
	post := func(op, csr, more string) string {
		return sh(`curl -sS --cacert ca.pem -H "Content-Type: application/pkcs10" --data-binary @` + csr + ` -o out -w "%{http_code}" ` + more + ` $EST/` + op)
	}
	is := func(want, got string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s: %s", got, want, sh("cat out"))
		}
	}
	is("401", post("simpleenroll", "one.csr", ""))
	is("401", post("simpleenroll", "one.csr", "-K wrong"))
	is("422", post("simpleenroll", "one.key", "-K basic"))
	is("422", post("simpleenroll", "one.csr", `-K basic -H "Content-Type: text/plain"`))
	is("501", post("serverkeygen", "one.csr", "-K basic"))
	is("401", post("simplereenroll", "one.csr", "-K basic"))
	is("200", post("simpleenroll", "one.csr", "-K basic"))
	is("200", post("simpleenroll", "one.csr", "-K basic")) // the answer got lost
	read := func(file string) string {
		return sh(`openssl base64 -d -in out | openssl pkcs7 -inform DER -print_certs -out ` + file + `.pem
			grep -c BEGIN ` + file + `.pem; openssl x509 -in ` + file + `.pem -noout -ext extendedKeyUsage,subjectAltName -subject -nameopt RFC2253`)
	}
	got := read("one")
	for _, want := range []string{"1\n", "URI:urn:keepmq:org:" + string(f.first.Org.ID), "TLS Web Client Authentication", "CN=d:sensor:sensor-1"} {
		if !strings.Contains(got, want) {
			t.Errorf("the certificate does not have %q:\n%s", want, got)
		}
	}
	sh("openssl verify -CAfile ca.pem -untrusted roots.pem -purpose sslclient one.pem") // with what cacerts gave
	is("409", post("simpleenroll", "two.csr", "-K basic"))
	is("422", post("simplereenroll", "other.csr", "--cert one.pem --key one.key"))
	is("200", post("simplereenroll", "two.csr", "--cert one.pem --key one.key"))
	if again := read("two"); !strings.Contains(again, "CN=d:sensor:sensor-1") {
		t.Errorf("renewed: %s", again)
	}
	is("200", post("simplereenroll", "two.csr", "--cert two.pem --key two.key"))
}
