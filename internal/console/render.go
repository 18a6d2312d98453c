package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/errs"
)

//go:embed templates/*.html assets/*
var files embed.FS

type pages map[string]*template.Template

// parsePages parses each page together with the frame around it.
func parsePages() (pages, error) {
	all, err := files.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	out := pages{}
	for _, f := range all {
		if f.Name() == "frame.html" {
			continue
		}
		t, err := template.New("frame.html").Funcs(template.FuncMap{"sentence": sentence}).ParseFS(files, "templates/frame.html", "templates/"+f.Name())
		if err != nil {
			return nil, fmt.Errorf("parse template %s: %w", f.Name(), err)
		}
		out[f.Name()] = t
	}
	return out, nil
}

// render sends a page only when it is whole.
func (s *server) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, data); err != nil {
		s.log.ErrorContext(r.Context(), "page failed", "route", r.Pattern, "err", err)
		http.Error(w, "The server could not make this page; its log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// An asset is a file that pages refer to.
type asset struct {
	content []byte
	media   string
	tag     string
}

func readAssets() (map[string]asset, error) {
	all, err := files.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	// The machine's own table of media types must not decide whether a browser
	// accepts a script, so the types are named here.
	media := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	out := map[string]asset{}
	for _, f := range all {
		content, err := files.ReadFile("assets/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		m := media[path.Ext(f.Name())]
		if _, _, err := mime.ParseMediaType(m); err != nil {
			return nil, fmt.Errorf("asset %s has no media type", f.Name())
		}
		sum := sha256.Sum256(content)
		out[f.Name()] = asset{content, m, `"` + hex.EncodeToString(sum[:16]) + `"`}
	}
	return out, nil
}

// asset sends a file; a browser that has the same one is told so.
func (s *server) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := s.assets[r.PathValue("name")]
	if !ok {
		return errs.E(errs.NotFound, "There is no such file.")
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", a.media)
	_, _ = w.Write(a.content)
	return nil
}

// sentence makes a message of ours one.
func sentence(s string) string {
	if s == "" {
		return s
	}
	c, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(c)) + s[n:]
	if !strings.ContainsRune(".!?", rune(s[len(s)-1])) {
		s += "."
	}
	return s
}
