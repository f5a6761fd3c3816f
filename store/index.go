package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"valise/tree"
)

const (
	partTarget = 8 << 20
	// A whole tree is written instead of a further patch when the patches on the last
	// one are so many, or exceed such a part of it (and a size worth the trouble).
	maxPatches   = 8
	maxPatchPart = 4
	smallPatches = 256 << 10
	maxTree      = 8 << 30
)

// SaveIndex stores the tree that is patch on base, whose index is of: as a patch, or
// as a whole tree where that is cheaper for those who read it. It returns the index
// for Commit and the whole tree.
func (r *Repo) SaveIndex(ctx context.Context, of []Index, base, patch *tree.Tree) ([]Index, *tree.Tree, error) {
	whole, err := tree.Apply(base, patch)
	if err != nil {
		return nil, nil, fmt.Errorf("save index: %w", err)
	}
	index, err := r.saveIndex(ctx, of, patch, whole)
	if err != nil {
		return nil, nil, fmt.Errorf("save index: %w", err)
	}
	r.saved(index, whole)
	return index, whole, nil
}

func (r *Repo) saveIndex(ctx context.Context, of []Index, patch, whole *tree.Tree) ([]Index, error) {
	if len(of) > 0 {
		x, err := r.saveTree(ctx, patch, func(size int64) bool {
			for _, p := range of[1:] {
				size += p.stored()
			}
			return len(of) <= maxPatches && (size <= smallPatches || size*maxPatchPart <= of[0].stored())
		})
		if err != nil {
			return nil, err
		}
		if x != nil {
			return append(of[:len(of):len(of)], *x), nil
		}
	}
	x, err := r.saveTree(ctx, whole, func(int64) bool { return true })
	if err != nil {
		return nil, err
	}
	return []Index{*x}, nil
}

// saveTree uploads a tree, unless accept refuses its compressed size.
func (r *Repo) saveTree(ctx context.Context, t *tree.Tree, accept func(size int64) bool) (*Index, error) {
	if len(t.Bytes()) > maxTree {
		return nil, fmt.Errorf("the tree has %d bytes, more than the format allows", len(t.Bytes()))
	}
	var buf bytes.Buffer
	enc, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	if _, err := enc.Write(t.Bytes()); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	data := buf.Bytes()
	if !accept(int64(len(data))) {
		return nil, nil
	}
	x := &Index{ID: NewID(), Size: int64(len(t.Bytes()))}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(packsAtOnce)
	for len(data) > 0 {
		key := x.key(len(x.Parts))
		part := r.sealer.seal("index\n"+string(key), data[:min(len(data), partTarget)])
		data = data[min(len(data), partTarget):]
		sum := blake3.Sum256(part)
		x.Parts = append(x.Parts, Part{Size: int64(len(part)), Sum: hex.EncodeToString(sum[:])})
		group.Go(func() error { return r.put(ctx, key, part) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return x, nil
}

// Tree reads the tree of a snapshot.
func (r *Repo) Tree(ctx context.Context, s Snapshot) (*tree.Tree, error) {
	if len(s.Index) == 0 {
		return nil, fmt.Errorf("read the index of snapshot %s: %w: it has none", s.Name(), ErrCorrupt)
	}
	parts := make([][][]byte, len(s.Index))
	group, fetch := errgroup.WithContext(ctx)
	group.SetLimit(4 * packsAtOnce)
	for i, x := range s.Index {
		parts[i] = make([][]byte, len(x.Parts))
		for j := range x.Parts {
			group.Go(func() (err error) {
				parts[i][j], err = r.indexPart(fetch, x, j)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("read the index of snapshot %s: %w", s.Name(), err)
	}
	var whole *tree.Tree
	for i, x := range s.Index {
		t, err := decompress(x, parts[i])
		parts[i] = nil
		if err == nil && i > 0 {
			t, err = tree.Apply(whole, t)
		} else if err == nil && t.Kind() != tree.Whole {
			err = fmt.Errorf("%w: it begins with a patch", ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("read the index of snapshot %s: %w", s.Name(), err)
		}
		whole = t
	}
	return whole, nil
}

func (r *Repo) indexPart(ctx context.Context, x Index, n int) ([]byte, error) {
	data, err := r.get(ctx, x.key(n))
	if err != nil {
		return nil, err
	}
	if sum := blake3.Sum256(data); hex.EncodeToString(sum[:]) != x.Parts[n].Sum {
		return nil, fmt.Errorf("%s: %w: wrong checksum", x.key(n), ErrCorrupt)
	}
	if data, err = r.sealer.open("index\n"+string(x.key(n)), data); err != nil {
		return nil, fmt.Errorf("%s: %w", x.key(n), err)
	}
	return data, nil
}

func decompress(x Index, parts [][]byte) (*tree.Tree, error) {
	readers := make([]io.Reader, len(parts))
	for i, p := range parts {
		readers[i] = bytes.NewReader(p)
	}
	if x.Size < 0 || x.Size > maxTree {
		return nil, fmt.Errorf("index %s: %w: %d bytes", x.ID, ErrCorrupt, x.Size)
	}
	dec, err := zstd.NewReader(io.MultiReader(readers...), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	data := make([]byte, x.Size)
	if _, err := io.ReadFull(dec, data); err != nil {
		return nil, fmt.Errorf("index %s: %w: %w", x.ID, ErrCorrupt, err)
	}
	t, err := tree.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", x.ID, err)
	}
	return t, nil
}
