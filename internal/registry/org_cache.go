package registry

import (
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
)

// orgCacheSize is of how many organisations something is remembered.
const orgCacheSize = 10_000

// An orgCache remembers one thing of each organisation, such as its locks. It is
// apart from the accounts, so that a change of it costs nobody the account that is
// remembered of them.
type orgCache[T any] struct {
	mu         sync.RWMutex // guards the fields below
	of         map[auth.OrgID]*T
	generation uint64 // counts what was forgotten
}

// get and put are those of cache.
func (c *orgCache[T]) get(org auth.OrgID) (*T, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.of[org], c.generation
}

func (c *orgCache[T]) put(org auth.OrgID, t *T, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if c.of == nil {
		c.of = map[auth.OrgID]*T{}
	}
	if len(c.of) >= orgCacheSize {
		for org := range c.of { // any one
			delete(c.of, org)
			break
		}
	}
	c.of[org] = t
}

func (c *orgCache[T]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.of = nil
}
