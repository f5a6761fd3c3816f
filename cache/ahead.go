package cache

import (
	"context"
	"math/bits"
	"time"
)

// recently is how long a pack may lie still until its reading is no longer sequential.
const recently = 30 * time.Second

// maxAhead is how many segments are read ahead: two large requests, of which one is
// under way while the other is read.
const maxAhead = 2 * maxRun

// readAhead starts the fetch of what will be read next, if the segments before the
// wanted ones were read not long ago: twice as many as those, up to maxAhead, and only
// when half of them are missing, so that requests stay large. The caller holds Cache.mu.
func (c *Cache) readAhead(ctx context.Context, p *pack, want segments, now time.Time) {
	if now.Sub(p.used) > recently {
		p.recent = 0
	}
	p.used = now
	first, last := bits.TrailingZeros64(uint64(want)), bits.Len64(uint64(want))
	window := min(2*p.recent.below(first), maxAhead)
	p.recent |= want
	if window == 0 || c.disk.broken() {
		return
	}
	next := span(last, min(last+window, 64)) & whole(p.size)
	missing := next &^ p.have &^ p.coming()
	if 2*missing.count() < next.count() {
		return
	}
	for missing != 0 && c.ahead.TryAcquire(1) {
		lo, hi := missing.run(maxRun)
		c.begin(ctx, &fetch{pack: p, lo: lo, hi: hi, kind: ahead})
		missing &^= span(lo, hi)
	}
}
