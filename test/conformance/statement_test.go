package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A statement is one normative statement of a standard.
type statement struct {
	id    string   // "3.1.0-1"
	says  string   // in our words
	tests []string // that show it
	why   string   // there is no test
	state byte
}

const (
	isShown = iota
	isUntested
	isClient
)

// shown is a statement that tests show: "TestX" of this package, or
// "internal/broker.TestX".
func shown(id, says string, tests ...string) statement {
	return statement{id: id, says: says, tests: tests}
}

// untested is a statement that no test can show.
func untested(id, says, why string) statement {
	return statement{id: id, says: says, why: why, state: isUntested}
}

// clientOnly is a statement that binds clients and no server.
func clientOnly(id, says string) statement { return statement{id: id, says: says, state: isClient} }

// A standard is the table of one version. sections says how many statements each
// section has, and gaps which numbers the standard does not use.
type standard struct {
	version  string
	table    []statement
	sections map[string]int
	gaps     []string
}

var standards = []standard{
	{"5.0", slices.Concat(table5Connect, table5Publish, table5Subscribe), map[string]int{
		"1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1,
		"3.1.0": 2, "3.1.2": 30, "3.1.3": 12, "3.1.4": 6, "3.2.0": 2, "3.2.2": 22,
		"3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1, "3.6.2": 3, "3.7.2": 3,
		"3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2,
		"3.10.1": 1, "3.10.3": 2, "3.10.4": 6, "3.11.2": 2, "3.11.3": 2,
		"3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3, "3.15.1": 1, "3.15.2": 3,
		"4.1.0": 2, "4.2": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2, "4.6.0": 6,
		"4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3,
		"4.12.0": 7, "4.12.1": 2, "4.13.1": 1, "4.13.2": 1, "6.0.0": 4,
	}, []string{"2.2.1-1"}},
	{"3.1.1", slices.Concat(table311Connect, table311Publish, table311Subscribe), map[string]int{
		"1.5.3": 3, "2.2.2": 2, "2.3.1": 7, "3.1.0": 2, "3.1.2": 24, "3.1.3": 11, "3.1.4": 5, "3.2.0": 1, "3.2.2": 6,
		"3.3.1": 12, "3.3.2": 3, "3.3.4": 1, "3.3.5": 2, "3.6.1": 1,
		"3.8.1": 1, "3.8.3": 4, "3.8.4": 6, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2, "3.10.4": 6,
		"3.12.4": 1, "3.14.1": 1, "3.14.4": 3,
		"4.1.0": 2, "4.3.1": 1, "4.3.2": 2, "4.3.3": 2, "4.4.0": 1, "4.5.0": 2, "4.6.0": 6,
		"4.7.1": 3, "4.7.2": 1, "4.7.3": 4, "4.8.0": 2, "6.0.0": 4, "7.0.0": 2, "7.1.1": 1, "7.1.2": 1,
	}, nil},
}

// Every statement has one row with its tests, or with the reason why there is none.
func TestTables(t *testing.T) {
	tests := testsOf(t, ".")
	elsewhere := map[string]map[string]bool{}
	named := map[string]bool{}
	for _, s := range standards {
		checkNumbers(t, s)
		for _, row := range s.table {
			switch {
			case row.says == "":
				t.Errorf("MQTT %s [%s]: the row does not say what the statement demands", s.version, row.id)
			case row.state == isShown && len(row.tests) == 0, row.state == isUntested && len(row.why) < 20:
				t.Errorf("MQTT %s [%s]: no test and no reason", s.version, row.id)
			}
			for _, name := range row.tests {
				have := tests
				if dir, test, ok := cutLast(name, "."); ok {
					if elsewhere[dir] == nil {
						elsewhere[dir] = testsOf(t, filepath.Join("..", "..", dir))
					}
					have, name = elsewhere[dir], test
				} else {
					named[name] = true
				}
				if !have[name] {
					t.Errorf("MQTT %s [%s]: there is no test %s", s.version, row.id, name)
				}
			}
		}
		t.Logf("MQTT %s: %d statements", s.version, len(s.table))
	}
	for name := range tests {
		if !named[name] && name != "TestTables" && name != "TestCitations" {
			t.Errorf("%s is in no row: which statement does it show?", name)
		}
	}
}

// checkNumbers checks that the table has every number of every section once.
func checkNumbers(t *testing.T, s standard) {
	seen := map[string]int{}
	for _, row := range s.table {
		if seen[row.id]++; seen[row.id] > 1 {
			t.Errorf("MQTT %s [%s]: more than one row", s.version, row.id)
		}
		section, n, _ := strings.Cut(row.id, "-")
		if i, err := strconv.Atoi(n); err != nil || i < 1 || i > s.sections[section] || slices.Contains(s.gaps, row.id) {
			t.Errorf("MQTT %s [%s]: there is no such statement", s.version, row.id)
		}
	}
	for section, last := range s.sections {
		for n := range last {
			if id := section + "-" + strconv.Itoa(n+1); seen[id] == 0 && !slices.Contains(s.gaps, id) {
				t.Errorf("MQTT %s [%s]: no row", s.version, id)
			}
		}
	}
}

var citation = regexp.MustCompile(`MQTT-(\d+(?:\.\d+)+-\d+)`)

// The code of this package cites no statement that does not exist.
func TestCitations(t *testing.T) {
	known := map[string]bool{}
	for _, s := range standards {
		for _, row := range s.table {
			known[row.id] = true
		}
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range citation.FindAllStringSubmatch(string(b), -1) {
			if !known[m[1]] {
				t.Errorf("%s cites [%s], which is in no table", file, m[0])
			}
		}
	}
}

// testsOf returns the names of the tests of the package in dir.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}
