package registry

import (
	"sync"
	"time"
)

// budgetSize is how many refused sign-ins a minute are recorded one by one.
const budgetSize = 20

// A budget limits how much a stranger can make us write.
type budget struct {
	mu     sync.Mutex // guards the fields below
	minute time.Time
	used   int
	missed int
}

// take reports whether one more may be written at now, and how many before it
// were not.
func (b *budget) take(now time.Time) (ok bool, missed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := now.Truncate(time.Minute); !m.Equal(b.minute) {
		b.minute, b.used = m, 0
	}
	if b.used >= budgetSize {
		b.missed++
		return false, 0
	}
	b.used++
	missed, b.missed = b.missed, 0
	return true, missed
}
