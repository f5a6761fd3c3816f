package store

import (
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
