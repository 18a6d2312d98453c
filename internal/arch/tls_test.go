package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// listeners are the only files that may open a listening socket. What they
// return is a TLS listener.
var listeners = map[string]bool{"internal/node/listen.go": true}

// plaintext are names that open a listener, or weaken TLS.
var plaintext = map[string]bool{
	"net.Listen": true, "net.ListenTCP": true, "net.ListenUnix": true, "net.ListenPacket": true, "net.ListenUDP": true,
	"net.ListenConfig": true, "net.FileListener": true, "tls.Listen": true,
	"http.ListenAndServe": true, "http.ListenAndServeTLS": true,
}

// weak are names that may stand nowhere in the product.
var weak = map[string]bool{
	"InsecureSkipVerify": true, "VersionTLS10": true, "VersionTLS11": true, "VersionSSL30": true, "InsecureCipherSuites": true,
	"ListenAndServe": true, "ListenAndServeTLS": true,
}

// TestTLSOrNothing reads the whole product: sockets are opened in one place,
// and nothing weakens TLS.
func TestTLSOrNothing(t *testing.T) {
	fset, found := token.NewFileSet(), 0
	for _, root := range []string{"cmd", "internal"} {
		err := filepath.WalkDir("../../"+root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(fset, p, nil, 0)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel("../..", p)
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if pkg, ok := n.X.(*ast.Ident); ok && plaintext[pkg.Name+"."+n.Sel.Name] {
						if !listeners[filepath.ToSlash(name)] {
							t.Errorf("%s: %s.%s: sockets are opened in internal/node/listen.go only", fset.Position(n.Pos()), pkg.Name, n.Sel.Name)
						}
						found++
					}
					if weak[n.Sel.Name] {
						t.Errorf("%s: %s is not allowed", fset.Position(n.Pos()), n.Sel.Name)
					}
				case *ast.KeyValueExpr:
					if id, ok := n.Key.(*ast.Ident); ok && weak[id.Name] {
						t.Errorf("%s: %s is not allowed", fset.Position(n.Pos()), id.Name)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no listener found at all: this test looks for the wrong names")
	}
}
