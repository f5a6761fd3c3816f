package store

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since boot, with the time in suspend: a lease runs out while
// a laptop sleeps.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // it is there since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// storeClock is what the store's clock has shown last.
type storeClock struct {
	mu    sync.Mutex // guards the rest
	shown time.Time
	at    time.Duration // by the repo's clock
}

func (c *storeClock) set(shown time.Time, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown, c.at = shown, at
}

// latest is the latest time that it can show when the repo's clock shows now.
func (c *storeClock) latest(now time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown.Add(now - c.at + 2*time.Second) // it shows whole seconds
}
