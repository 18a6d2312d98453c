package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// A list is one page of something.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// A page is the flags of a command that lists.
type page struct {
	limit int
	after string
	query url.Values
}

func (p *page) flags(c *cobra.Command) {
	p.query = url.Values{}
	c.Flags().IntVar(&p.limit, "limit", 100, "show at most this many, 1 to 1000")
	c.Flags().StringVar(&p.after, "after", "", "go on where the page before ended")
}

// add adds a filter that was given.
func (p *page) add(name, value string) {
	if value != "" {
		p.query.Set(name, value)
	}
}

// show prints a page of what is at path.
func show[T any](ctx context.Context, e *env, r *remote, path string, p *page, head []string, row func(T) []string) error {
	p.query.Set("limit", strconv.Itoa(p.limit))
	p.add("after", p.after)
	var raw []byte
	if err := r.call(ctx, http.MethodGet, path+"?"+p.query.Encode(), nil, &raw); err != nil {
		return err
	}
	if e.json {
		return e.printJSON(raw)
	}
	var l list[T]
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("read the server's list: %w", err)
	}
	if len(l.Items) == 0 {
		e.note("there are none")
		return nil
	}
	rows := make([][]string, 0, len(l.Items))
	for _, i := range l.Items {
		rows = append(rows, row(i))
	}
	if err := e.table(head, rows); err != nil {
		return err
	}
	if l.Next != "" {
		e.note("there are more: add --after %s", l.Next)
	}
	return nil
}

// showAll prints what is at path, which has no pages.
func showAll[T any](ctx context.Context, e *env, r *remote, path string, head []string, row func(T) []string) error {
	return one(ctx, e, r, http.MethodGet, path, nil, func(l list[T]) error {
		if len(l.Items) == 0 {
			e.note("there are none")
			return nil
		}
		rows := make([][]string, 0, len(l.Items))
		for _, i := range l.Items {
			rows = append(rows, row(i))
		}
		return e.table(head, rows)
	})
}

// deletion is a command that deletes the thing of that name below the path of an
// organisation, after asking.
func deletion(e *env, noun, use, short, path string) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: use, Short: short, Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, noun+" "+a[0]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/"+path, a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted %s %s.", noun, a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// one asks for, or makes, one thing, and prints it.
func one[T any](ctx context.Context, e *env, r *remote, method, path string, in any, print func(T) error) error {
	var raw []byte
	if err := r.call(ctx, method, path, in, &raw); err != nil {
		return err
	}
	if e.json {
		return e.printJSON(raw)
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return print(v)
}

// inOrg returns the server and the path of an organisation on it.
func (e *env) inOrg(ctx context.Context) (r *remote, path string, err error) {
	if r, err = e.remote(); err != nil {
		return nil, "", err
	}
	org, err := e.orgID(ctx, r)
	return r, "/orgs/" + url.PathEscape(org), err
}

// orgID returns the organisation that is meant: the one that was named, the
// default, or the only one.
func (e *env) orgID(ctx context.Context, r *remote) (string, error) {
	if org := first(e.org, e.getenv("KEEPMQ_ORG"), r.org); org != "" {
		return org, nil
	}
	var l list[struct{ ID, Name string }]
	if err := r.call(ctx, http.MethodGet, "/orgs?limit=5", nil, &l); err != nil {
		return "", err
	}
	switch len(l.Items) {
	case 0:
		return "", hint("make one with: keepmq org create NAME", "there is no organisation yet")
	case 1:
		return l.Items[0].ID, nil
	}
	var names []string
	for _, o := range l.Items {
		names = append(names, o.ID+" ("+o.Name+")")
	}
	return "", hint("name one with --org, or choose a default with: keepmq org use ID",
		"there are several organisations: %s", printable(strings.Join(names, ", ")))
}

// join makes a path of parts that may contain anything.
func join(base string, parts ...string) string {
	for _, p := range parts {
		base += "/" + url.PathEscape(p)
	}
	return base
}

// sure asks before something is deleted.
func (e *env) sure(yes bool, what string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(e.errw, "Delete %s? This cannot be undone. Type yes: ", printable(what))
	var answer string
	if _, err := fmt.Fscanln(e.in, &answer); err != nil || answer != "yes" {
		return &hintError{errors.New("nothing was deleted"), "answer yes, or add --yes"}
	}
	return nil
}
