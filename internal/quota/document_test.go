package quota_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/quota"
)

var write = flag.Bool("write", false, "write the table into docs/limits.md")

// The document has the table of all limits.
func TestDocument(t *testing.T) {
	const name, begin, end = "../../docs/limits.md", "<!-- table -->\n", "<!-- end of table -->\n"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", name)
	}
	if table == markdown() {
		return
	}
	if *write {
		if err := os.WriteFile(name, []byte(before+begin+markdown()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s differs from the table of limits; write it with: go test ./internal/quota -run TestDocument -write", name)
}

func markdown() string {
	var s strings.Builder
	s.WriteString("| limit | default | may be set to | bounds | at the limit |\n|---|---|---|---|---|\n")
	for _, l := range quota.All() {
		def := fmt.Sprint(quota.Defaults().Value(l))
		least, most := l.Range()
		between := fmt.Sprintf("%d to %d", least, most)
		if l == quota.ClientQueueFull {
			between = "refuse, end_session"
		}
		fmt.Fprintf(&s, "| `%s` | %s | %s | %s | %s |\n", l, def, between, l.About(), l.AtLimit())
	}
	return s.String()
}
