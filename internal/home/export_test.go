package home

import "time"

// RetryAfter sets the pause after which the janitor tries again.
func (k *Keeper) RetryAfter(d time.Duration) { k.retry = d }
