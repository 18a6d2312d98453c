package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if e.json {
				_, err := fmt.Fprintf(e.out, "{\n  \"version\": %q,\n  \"go\": %q,\n  \"platform\": %q\n}\n",
					version(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
				return err
			}
			_, err := fmt.Fprintf(e.out, "keepmq %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version is that of the module, or of the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}
