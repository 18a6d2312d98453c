package registry

import (
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
)

// lockCacheSize is of how many organisations the locks are remembered.
const lockCacheSize = 10_000

// lockCache remembers locks. It is apart from the accounts, so that a lock costs
// nobody the account that is remembered of them.
type lockCache struct {
	mu         sync.RWMutex // guards the fields below
	of         map[auth.OrgID]*lockSet
	generation uint64 // counts what was forgotten
}

// get and put are those of cache.
func (c *lockCache) get(org auth.OrgID) (*lockSet, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.of[org], c.generation
}

func (c *lockCache) put(org auth.OrgID, s *lockSet, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if c.of == nil {
		c.of = map[auth.OrgID]*lockSet{}
	}
	if len(c.of) >= lockCacheSize {
		for org := range c.of { // any one
			delete(c.of, org)
			break
		}
	}
	c.of[org] = s
}

func (c *lockCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.of = nil
}
