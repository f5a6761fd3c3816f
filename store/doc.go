// Package store holds a profile on S3: packs of file content, indexes of trees,
// snapshots that name an index, and the lease of the one mount that may commit.
// docs/format.md is the format; this package is the only writer and reader of it.
//
// Invariants:
//
//   - Packs, indexes and snapshots never change once written; only a lease is
//     overwritten, by its holder, and the profile once, by what was found out about
//     the store. Objects are written in the order packs, index,
//     snapshot, so what a snapshot names is there.
//   - Creating an object that must not exist is the only conditional request. It
//     takes an epoch and it commits a snapshot. Every body carries a nonce, so that a
//     lost answer is told from a lost race by reading back.
//   - A snapshot of a lower epoch is never the head.
//   - Clocks decide when a lease may be taken over, and nothing else. A commit counts
//     once the listing of leases, after the snapshot was created, shows no newer epoch;
//     who takes an epoch reads the head after that. So either the one is told that it
//     lost, or the other one goes on from its snapshot.
//   - What was read is verified against its hash before anyone sees it.
//   - Deleting is prune's alone, and never in a run that writes.
//
// A Repo may be used by many goroutines at once; a Lease and a Writer have one owner
// each. Nothing here touches the local disk but what a caller hands over to be
// written. The package does not cache and does not mount.
package store
