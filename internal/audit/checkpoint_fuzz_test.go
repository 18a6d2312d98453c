package audit

import (
	"bytes"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// FuzzCheckpoint reads any text as a checkpoint, as it is and signed by the
// installation. Only a signed one is accepted, and it says what it was made of.
func FuzzCheckpoint(f *testing.F) {
	const origin = "keepmq-audit/fuzz"
	key, public, err := note.GenerateKey(bytes.NewReader(make([]byte, 64)), origin)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		f.Fatal(err)
	}
	good := formatTree(origin, tlog.Tree{N: 3, Hash: emptyHash()})
	for _, s := range []string{good, origin + "\n-1\n\n", origin + "\n01\nAAAA\n", good + "more\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if tree, err := openCheckpoint(text, verifier); err == nil {
			t.Fatalf("accepted without our signature: %+v", tree)
		}
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			return // not the text of a note
		}
		tree, err := openCheckpoint(string(signed), verifier)
		if err == nil && formatTree(origin, tree) != text {
			t.Fatalf("%q is read as %+v", text, tree)
		}
		if err != nil && text == good {
			t.Fatal(err)
		}
	})
}
