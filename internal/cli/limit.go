package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func limitCommand(e *env) *cobra.Command {
	return group("limit", "Limits: what an organisation and its device types may use",
		limitList(e), limitSet(e), limitUnset(e), limitEvents(e))
}

// A limit has values that are numbers or words.
type limit struct {
	Name      string          `json:"name"`
	About     string          `json:"about"`
	Default   json.RawMessage `json:"default"`
	Set       json.RawMessage `json:"set"`
	Effective json.RawMessage `json:"effective"`
	Used      *int64          `json:"used"`
}

// inLimits returns the server and the path of the limits of the organisation
// or, unless typ is empty, of a device type.
func (e *env) inLimits(ctx context.Context, typ string) (*remote, string, error) {
	r, path, err := e.inOrg(ctx)
	if typ != "" {
		path = join(path+"/types", typ)
	}
	return r, path + "/limits", err
}

func typeFlag(c *cobra.Command, typ *string) {
	c.Flags().StringVar(typ, "type", "", "of this device type, instead of the organisation")
}

// printLimits prints those limits that keep accepts.
func (e *env) printLimits(keep func(limit) bool) func(list[limit]) error {
	return func(l list[limit]) error {
		var rows [][]string
		for _, i := range l.Items {
			used := ""
			if i.Used != nil {
				used = strconv.FormatInt(*i.Used, 10)
			}
			if keep(i) {
				rows = append(rows, []string{i.Name, limitValue(i.Effective), limitValue(i.Set), limitValue(i.Default), used, i.About})
			}
		}
		return e.table([]string{"LIMIT", "HOLDS", "SET", "DEFAULT", "USED", "ABOUT"}, rows)
	}
}

// limitValue shows a value of a limit; nothing is set is shown as a hyphen.
func limitValue(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "-"
	}
	return strings.Trim(string(raw), `"`)
}
