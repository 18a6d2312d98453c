package audit

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lineLimit bounds a line of an export. In a CSV one a record is there twice,
// with every quotation mark doubled.
const lineLimit = 6*recordLimit + 64<<10

// A lineWriter writes the lines of an export.
type lineWriter interface {
	line(r *Record, text []byte) error // r: what text is of; nil: no record
}

type jsonWriter struct{ w *bufio.Writer }

func (j jsonWriter) line(_ *Record, text []byte) error {
	if _, err := j.w.Write(text); err != nil {
		return err
	}
	return j.w.WriteByte('\n')
}

// csvHead is the first line of a CSV export. The last column of the others is a
// line of the export as JSON, which proves what the columns before it say.
var csvHead = []string{"number", "time", "org", "org_number", "actor", "action", "target", "address", "request", "detail", "proof"}

type csvWriter struct{ w *bufio.Writer }

func (c csvWriter) line(r *Record, text []byte) error {
	if r == nil && bytes.HasPrefix(text, []byte(`{"keepmq_audit"`)) {
		if err := c.cells(csvHead); err != nil {
			return err
		}
	}
	return c.cells(append(columns(r), string(text)))
}

// cells writes a row. Every cell is quoted, so that none begins anew behind a
// semicolon where that is what separates cells.
func (c csvWriter) cells(cells []string) error {
	for i, s := range cells {
		sep := ","
		if i == len(cells)-1 {
			sep = "\n"
		}
		if _, err := c.w.WriteString(`"` + strings.ReplaceAll(s, `"`, `""`) + `"` + sep); err != nil {
			return err
		}
	}
	return nil
}

// columns returns what the columns before the last say of a record.
func columns(r *Record) []string {
	if r == nil {
		return make([]string, len(csvHead)-1)
	}
	number, detail := "", ""
	if r.Format != firstFormat {
		number = strconv.FormatInt(r.Number, 10)
	}
	if len(r.Detail) > 0 {
		b, _ := json.Marshal(r.Detail) // it was read from JSON
		detail = string(b)
	}
	cells := []string{strconv.FormatInt(r.Seq, 10), r.Time.UTC().Format(time.RFC3339Nano), string(r.Org), number,
		r.Actor, r.Action, r.Target, r.Address, r.RequestID, detail}
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	return cells
}

// harmless returns s so that no terminal and no spreadsheet does anything with
// it: without control characters, and with an apostrophe before what would begin
// a formula, also where semicolons separate cells.
func harmless(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '\n' || unprintable(c) {
			return '?'
		}
		return c
	}, s)
	parts := strings.Split(s, ";")
	for i, p := range parts {
		if t := strings.TrimLeft(p, " '\"\u3000"); t != "" && strings.ContainsRune("=+-@?\uff1d\uff0b\uff0d\uff20", []rune(t)[0]) {
			parts[i] = "'" + p
		}
	}
	return strings.Join(parts, ";")
}

// A lineReader reads the lines of an export.
type lineReader struct {
	in  *bufio.Reader
	csv bool
}

// newLineReader finds out what kind of export r is.
func newLineReader(r io.Reader) (*lineReader, error) {
	l := &lineReader{in: bufio.NewReaderSize(r, lineLimit)}
	first, err := l.in.Peek(1)
	if err != nil || first[0] == '{' {
		return l, nil
	}
	l.csv = true
	head, err := l.row()
	if err != nil || !slices.Equal(head, csvHead) {
		return nil, errors.New("not an export")
	}
	return l, nil
}

// next returns the next line, and in CSV what the columns beside it say.
func (l *lineReader) next() (text []byte, beside []string, err error) {
	if !l.csv {
		text, err = readLine(l.in)
		return text, nil, err
	}
	row, err := l.row()
	if err != nil {
		return nil, nil, err
	}
	last := len(row) - 1
	return []byte(row[last]), row[:last], nil
}

// row reads a row of CSV, which is one line: no cell has an end of line in it.
func (l *lineReader) row() ([]string, error) {
	text, err := readLine(l.in)
	if err != nil {
		return nil, err
	}
	c := csv.NewReader(bytes.NewReader(text))
	c.FieldsPerRecord = len(csvHead)
	row, err := c.Read()
	if err != nil {
		return nil, tampered("a line is not a row of %d cells", len(csvHead))
	}
	return row, nil
}

// readLine returns the next line without its end. A last line without one was
// cut off.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, tampered("a line is longer than a record can be")
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, tampered("the last line is not complete")
	}
	return nil, err
}

// checkBeside checks that the columns beside a line say what it says.
func checkBeside(beside []string, r *Record) error {
	if beside == nil {
		return nil
	}
	for i, want := range columns(r) {
		switch {
		case beside[i] == want:
		case r == nil:
			return tampered("there is something beside a line that is no record")
		default:
			return tampered("the %s of record %d was changed", csvHead[i], r.Seq)
		}
	}
	return nil
}
