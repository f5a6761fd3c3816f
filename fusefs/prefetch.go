package fusefs

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"valise/tree"
)

// fetchers is how many packs Prefetch has on the way at a time, so that readers keep
// most of the line.
const fetchers = 2

// Prefetch brings all content of t near: first the packs of the files that the last
// session touched, in its order, then the others, each once. It ends at the first
// error, which it returns, or with ctx.
func Prefetch(ctx context.Context, t *tree.Tree, c Content, log *slog.Logger) error {
	packs := packOrder(t)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next, bytes atomic.Int64
	var group sync.WaitGroup
	for range fetchers {
		group.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(packs)) {
					return
				}
				size := t.PackSize(packs[i])
				if err := c.Prefetch(ctx, packs[i], size); err != nil {
					stop(err) // keeps the first, also where ctx was before
					return
				}
				bytes.Add(int64(size))
			}
		})
	}
	group.Wait()
	err := context.Cause(ctx)
	log.Debug("prefetching has ended", "packs", len(packs), "bytes", bytes.Load(), "error", err)
	return err
}

// packOrder lists the packs of t, those of the files touched first in front.
func packOrder(t *tree.Tree) []tree.PackID {
	list := make([]tree.PackID, 0, t.Packs())
	seen := make(map[tree.PackID]struct{}, t.Packs())
	add := func(id tree.PackID) {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			list = append(list, id)
		}
	}
	for _, n := range touchedFiles(t) {
		for e := range t.Extents(n) {
			add(e.Blob.Pack)
		}
	}
	for i := range t.Packs() {
		id, _ := t.Pack(i)
		add(id)
	}
	return list
}

// touchedFiles lists the rows of the files in t's order. Those that are no more are
// left out.
func touchedFiles(t *tree.Tree) []tree.Node {
	rows := map[uint64]tree.Node{} // of the inode numbers asked for alone
	for ino := range t.Order() {
		rows[ino] = 0
	}
	if len(rows) == 0 {
		return nil
	}
	for n := range tree.Node(t.Len()) {
		a := t.Attr(n)
		if _, wanted := rows[a.Ino]; wanted && a.IsRegular() {
			rows[a.Ino] = t.File(n)
		}
	}
	list := make([]tree.Node, 0, len(rows))
	for ino := range t.Order() {
		if n := rows[ino]; n != tree.Root {
			list = append(list, n)
		}
	}
	return list
}
