package browser

import (
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/test/server"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	s := server.Start(t, filepath.Join(t.TempDir(), "data"))
	compare(t, run(t, s, "limits.mjs", map[string]any{}), map[string]string{
		"page":       `["/limits",2]`,
		"used":       `"0"`,
		"too wide":   `false`,
		"complaints": `[]`,
	})
}
