package registry

import (
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
)

// cacheSize is how many accounts are kept in memory. At some 500 bytes each a
// full cache is 50 MB.
const cacheSize = 100_000

// cache remembers accounts as the store has them. A change forgets what it
// touches before it returns, so that a remembered account is never older than
// the last change that returned. It holds no secrets, only what is stored.
type cache struct {
	mu         sync.RWMutex // guards the fields below
	accounts   map[auth.Principal]*account
	generation uint64 // counts what was forgotten
}

// get returns the account of p if it is remembered, and the generation to give
// to put when it is not.
func (c *cache) get(p auth.Principal) (*account, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.accounts[p], c.generation
}

// put remembers a, which was read after get returned generation. If anything
// was forgotten since then, a may be older than that change, and is not kept.
func (c *cache) put(a *account, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if c.accounts == nil {
		c.accounts = map[auth.Principal]*account{}
	}
	if len(c.accounts) >= cacheSize {
		for p := range c.accounts { // any one
			delete(c.accounts, p)
			break
		}
	}
	c.accounts[a.principal] = a
}

// forget forgets everyone a change of p concerns.
func (c *cache) forget(p auth.Principal) {
	if p.Kind == auth.AnyKind {
		c.clear()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.accounts, p)
}

// clear forgets everyone.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.accounts = nil
}
