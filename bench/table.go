package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// writeTable writes one line for each measure of each row as a Markdown table:
// the median of the rounds, the lowest and the highest, and how the first peer
// compares with each other one.
func writeTable(w io.Writer, peers []string, rows []Result) error {
	head := append([]string{"row", "measure"}, peers...)
	for _, p := range peers[1:] {
		head = append(head, peers[0]+" / "+p)
	}
	lines := [][]string{head}
	for _, r := range rows {
		for i, m := range r.Measures {
			name := ""
			if i == 0 {
				name = r.Title
			}
			lines = append(lines, append([]string{name, m.Name}, cells(peers, m)...))
		}
	}
	if len(lines) == 1 {
		return nil // only rows of growth, which have a table of their own
	}
	return writeColumns(w, lines, 2)
}

// cells are the columns of one measure: each peer, then each ratio.
func cells(peers []string, m Measure) []string {
	var out []string
	for _, p := range peers {
		out = append(out, spread(m.Values[p]))
	}
	own := median(m.Values[peers[0]])
	for _, p := range peers[1:] {
		out = append(out, ratio(own, median(m.Values[p])))
	}
	return out
}

// spread shows the median and, of several rounds, the lowest and the highest.
func spread(v []float64) string {
	switch len(v) {
	case 0:
		return "–"
	case 1:
		return number(v[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

// ratio shows a/b where both are there.
func ratio(a, b float64) string {
	if math.IsNaN(a) || math.IsNaN(b) || b == 0 {
		return "–"
	}
	return strconv.FormatFloat(a/b, 'f', 2, 64)
}

// number shows three digits or more.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// writeColumns aligns a Markdown table; columns from right on are numbers.
func writeColumns(w io.Writer, lines [][]string, right int) error {
	width := make([]int, len(lines[0]))
	for _, l := range lines {
		for i, c := range l {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	rule := make([]string, len(width))
	for i, n := range width {
		rule[i] = strings.Repeat("-", n)
		if i >= right {
			rule[i] = strings.Repeat("-", n-1) + ":"
		}
	}
	for _, l := range slices.Insert(slices.Clone(lines), 1, rule) {
		var b strings.Builder
		for i, c := range l {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i >= right {
				c = pad + c
			} else {
				c += pad
			}
			b.WriteString("| " + c + " ")
		}
		if _, err := fmt.Fprintln(w, b.String()+"|"); err != nil {
			return err
		}
	}
	return nil
}
