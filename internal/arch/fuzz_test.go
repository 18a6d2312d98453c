package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFuzzTargets compares the fuzz targets of the project with the table in
// docs/fuzzing.md: each target has one row, each row a target, and the functions
// that it names are in the package.
func TestFuzzTargets(t *testing.T) {
	text, err := os.ReadFile("../../docs/fuzzing.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{} // "package target" → the functions it reads with
	row := regexp.MustCompile(`(?m)^\| ([a-z0-9/]+) \| (Fuzz\w+) \| ([^|]*) \|`)
	quoted := regexp.MustCompile("`(\\w+)`")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		key := m[1] + " " + m[2]
		if rows[key] != nil {
			t.Errorf("docs/fuzzing.md: %s is there twice", key)
		}
		rows[key] = []string{}
		for _, q := range quoted.FindAllStringSubmatch(m[3], -1) {
			rows[key] = append(rows[key], q[1])
		}
	}
	targets, functions := declared(t)
	for key := range targets {
		if rows[key] == nil {
			t.Errorf("docs/fuzzing.md has no row for %s: add one beside those of its package", key)
		}
	}
	for key, reads := range rows {
		if !targets[key] {
			t.Errorf("docs/fuzzing.md: there is no %s", key)
		}
		pkg, _, _ := strings.Cut(key, " ")
		for _, f := range reads {
			if !functions[pkg+" "+f] {
				t.Errorf("docs/fuzzing.md: %s has no function %s", pkg, f)
			}
		}
	}
	if len(targets) < 40 {
		t.Errorf("only %d targets seen", len(targets))
	}
}

// declared returns the fuzz targets and all other functions as "package name".
func declared(t *testing.T) (targets, functions map[string]bool) {
	t.Helper()
	targets, functions = map[string]bool{}, map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?(\w+)[\[(]`)
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.Contains(p, "node_modules") {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(p), "../../"))
		for _, m := range decl.FindAllStringSubmatch(string(b), -1) {
			switch test := strings.HasSuffix(p, "_test.go"); {
			case !test:
				functions[pkg+" "+m[1]] = true
			case strings.HasPrefix(m[1], "Fuzz"):
				targets[pkg+" "+m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return targets, functions
}
