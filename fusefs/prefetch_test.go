package fusefs

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"testing"

	"valise/tree"
)

// inPack adds a file of one block that lies in a pack.
func (p *plan) inPack(name string, pack byte) {
	p.entry(0, name, syscall.S_IFREG|0o644, func(e *tree.Entry) {
		p.extent(e, 0, 8)
		e.Extents[0].Blob.Pack = tree.PackID{pack}
	})
}

func packPlan() *plan {
	p := newPlan()
	for i, name := range []string{"a", "b", "c", "d", "e"} { // inodes 101 to 105
		p.inPack(name, byte(i+1))
	}
	p.inPack("with d", 4) // inode 106
	p.Order([]uint64{104, 999, 100, 106, 102})
	return p
}

func TestPrefetchBeginsWithWhatWasTouched(t *testing.T) {
	p := packPlan()
	tr := p.finish(t)
	var got []byte
	for _, id := range packOrder(tr) {
		got = append(got, id[0])
	}
	if string(got) != "\x04\x02\x01\x03\x05" {
		t.Errorf("order %v", got)
	}
	if err := Prefetch(t.Context(), tr, p.content, slog.Default()); err != nil {
		t.Error(err)
	}
	seen := map[tree.PackID]int{}
	for _, id := range p.content.packs {
		seen[id]++
	}
	if len(seen) != 5 || len(p.content.packs) != 5 {
		t.Errorf("packs fetched: %v", seen)
	}
}

func TestPrefetchEndsAtAnError(t *testing.T) {
	p := packPlan()
	p.content.packError = errors.New("full")
	if err := Prefetch(t.Context(), p.finish(t), p.content, slog.Default()); !errors.Is(err, p.content.packError) {
		t.Errorf("got %v", err)
	}
	if n := len(p.content.packs); n > fetchers {
		t.Errorf("%d packs were tried", n)
	}
	p = packPlan()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Prefetch(ctx, p.finish(t), p.content, slog.Default()); !errors.Is(err, context.Canceled) || len(p.content.packs) > 0 {
		t.Errorf("cancelled: %v, %d packs", err, len(p.content.packs))
	}
}
