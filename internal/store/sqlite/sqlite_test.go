package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/storetest"
)

func TestContract(t *testing.T) {
	openAt := func(t *testing.T, path string) store.DB {
		db, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	storetest.Test(t,
		func(t *testing.T) store.DB { return openAt(t, filepath.Join(t.TempDir(), "keepmq.db")) },
		func(t *testing.T, db store.DB) store.DB {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return openAt(t, db.(*DB).path)
		})
}
