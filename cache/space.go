package cache

import "sync"

// space is the account of what the packs take on the disk. What is being written counts
// as written.
type space struct {
	limit int64 // 0 for none

	sweeping sync.Mutex // one measures or evicts; taken before mu and Cache.mu

	mu       sync.Mutex // guards what follows
	measured int64      // when the directory was last looked at
	written  int64      // since
	pending  int64      // being written
}

// low is what eviction leaves, so that it has not to be done for every write.
func (s *space) low() int64 { return s.limit - s.limit/16 }

func (s *space) used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.measured + s.written
}

// total is what there will be when all is written. The caller holds mu.
func (s *space) total() int64 { return s.measured + s.written + s.pending }

// take accounts for n bytes to be written, if there is room.
func (s *space) take(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && s.total()+n > s.limit {
		return false
	}
	s.pending += n
	return true
}

// stale reports whether so much was written that others may have done the same.
func (s *space) stale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit > 0 && s.written > max(s.limit/32, segment)
}

// settle ends what take began.
func (s *space) settle(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending -= n
	s.written += n
}

// fits reports whether n bytes would lead to no eviction soon.
func (s *space) fits(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit == 0 || s.total()+n <= s.low()
}
