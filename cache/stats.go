package cache

import "sync/atomic"

// counters are what Stats tells.
type counters struct {
	memory, disk, waited atomic.Uint64
	fetches, fetched     atomic.Uint64
	corrupt, evicted     atomic.Uint64
}

// block counts one that was not in memory.
func (n *counters) block(waited bool) {
	if waited {
		n.waited.Add(1)
	} else {
		n.disk.Add(1)
	}
}

func (n *counters) stats() Stats {
	return Stats{
		Memory: n.memory.Load(), Disk: n.disk.Load(), Waited: n.waited.Load(),
		Fetches: n.fetches.Load(), Fetched: n.fetched.Load(),
		Corrupt: n.corrupt.Load(), Evicted: n.evicted.Load(),
	}
}
