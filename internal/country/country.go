// Package country tells in which country an address is, from a database file that
// the operator supplies: one in the MaxMind format whose records have
// country.iso_code.
package country

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"
)

// A Database is an open database file. Its methods may be called from any
// goroutine, until it is closed.
type Database struct{ reader *maxminddb.Reader }

// Open opens the file and checks that it is of the kind that is needed.
func Open(file string) (*Database, error) {
	r, err := maxminddb.Open(file)
	if err != nil {
		return nil, fmt.Errorf("country database %s: %w", file, err)
	}
	d := &Database{r}
	for network := range r.Networks() {
		var code string
		if err := network.DecodePath(&code, "country", "iso_code"); err == nil && code != "" {
			return d, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("country database %s: no record in it has country.iso_code", file), r.Close())
}

// Of returns the country of an address (ISO 3166-1 alpha-2), or "" if the database
// has none for it.
func (d *Database) Of(a netip.Addr) (string, error) {
	var code string
	result := d.reader.Lookup(a.Unmap().WithZone(""))
	if !result.Found() {
		return "", result.Err()
	}
	if err := result.DecodePath(&code, "country", "iso_code"); err != nil {
		return "", fmt.Errorf("read country: %w", err)
	}
	return code, nil
}

// Close closes the file.
func (d *Database) Close() error { return d.reader.Close() }
