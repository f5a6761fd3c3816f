package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// PurgeResult is what was deleted, or would be.
type PurgeResult struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// purgeOrder is that of deleting: a purge that is cut off leaves an empty profile or one
// that is damaged and known to be, but never one that looks whole and is not; and nobody
// can take the lease before the end.
var purgeOrder = []Key{prefixSnapshots, prefixConflicts, prefixPins, prefixMarks, prefixIndex, prefixPacks, keyProbe, keyProfile, prefixLease}

// deletesAtOnce is how many requests of a purge are under way.
const deletesAtOnce = 16

// Size counts the objects of a profile.
func Size(ctx context.Context, b Bucket) (PurgeResult, error) {
	all, err := (&Repo{bucket: b}).list(ctx, "")
	res := PurgeResult{Objects: len(all)}
	for _, o := range all {
		res.Bytes += o.Size
	}
	return res, err
}

// Purge deletes a profile with every object of it, unless a mount holds its lease, which is
// a *HeldError, or other objects lie among them. With dryRun it only counts. What an
// earlier purge that was cut off has left is deleted too.
func Purge(ctx context.Context, cfg Config, claim Claim, dryRun bool) (PurgeResult, error) {
	r, err := newRepo(cfg)
	if err != nil {
		return PurgeResult{}, err
	}
	defer r.Close()
	res, err := r.purge(ctx, claim, dryRun)
	if err != nil {
		return res, fmt.Errorf("purge: %w", err)
	}
	return res, nil
}

func (r *Repo) purge(ctx context.Context, claim Claim, dryRun bool) (res PurgeResult, err error) {
	all, err := r.list(ctx, "")
	if err != nil || len(all) == 0 {
		return res, err
	}
	for _, o := range all {
		if !ours(o.Key) {
			return res, fmt.Errorf("%s is no object of a profile: nothing was deleted", o.Key)
		}
		res.Bytes += o.Size
	}
	res.Objects = len(all)
	if dryRun {
		holder, err := r.Holder(ctx)
		if holder != nil {
			err = errors.Join(holder, err)
		}
		return res, err
	}
	lease, err := r.Acquire(ctx, claim)
	if err != nil {
		return PurgeResult{}, err
	}
	for _, prefix := range purgeOrder {
		if err := r.purgePrefix(ctx, lease, prefix); err != nil {
			return res, errors.Join(err, lease.Release(ctx))
		}
	}
	return res, nil
}

// purgeBatch objects are deleted between two renewals of the lease.
const purgeBatch = 1000

func (r *Repo) purgePrefix(ctx context.Context, lease *Lease, prefix Key) error {
	objects, err := r.list(ctx, prefix)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(objects, purgeBatch) {
		if prefix != prefixLease { // a renewal would bring it back
			if err := lease.Renew(ctx); err != nil {
				return err
			}
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(deletesAtOnce)
		for _, o := range batch {
			group.Go(func() error { return r.bucket.Delete(ctx, o.Key) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether a key is one that a profile has.
func ours(key Key) bool {
	for _, prefix := range purgeOrder {
		folder := strings.HasSuffix(string(prefix), "/")
		if key == prefix && !folder || folder && len(key) > len(prefix) && strings.HasPrefix(string(key), string(prefix)) {
			return true
		}
	}
	return false
}
