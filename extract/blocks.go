package extract

import (
	"context"
	"iter"
	"sync"

	"valise/tree"
)

// block is an extent with its bytes, which nobody may change.
type block struct {
	tree.Extent
	raw []byte
}

// pending is a block that is being read.
type pending struct {
	block
	err  error
	done chan struct{} // closed when raw and err are set
}

// blocks yields the data of extents in their order while up to ahead blocks are being
// read or wait for their turn. It ends after the first error. No read is under way
// when the loop over it is over.
func (c *Config) blocks(ctx context.Context, extents iter.Seq[tree.Extent], ahead int) iter.Seq2[block, error] {
	return func(yield func(block, error) bool) {
		var reads sync.WaitGroup
		defer reads.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		next, stop := iter.Pull(extents)
		defer stop()

		queue := make(chan *pending, ahead)
		for more := true; ; {
			for more && len(queue) < ahead {
				p := &pending{done: make(chan struct{})}
				if p.Extent, more = next(); !more {
					break
				}
				queue <- p
				reads.Go(func() {
					defer close(p.done)
					p.raw, p.err = c.read(ctx, p.Blob)
				})
			}
			if len(queue) == 0 {
				return
			}
			p := <-queue
			<-p.done
			if !yield(p.block, p.err) || p.err != nil {
				return
			}
		}
	}
}
