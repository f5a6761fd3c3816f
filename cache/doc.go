// Package cache keeps packs on the local disk and gives out verified blocks of them.
//
// A file <dir>/<pack id> is a sparse copy of the object packs/<id>, in its stored form,
// filled in aligned segments. There is no other record: what a file holds is asked of
// its extents when it is opened, so the cache outlives restarts and crashes. What a
// crash, a bad disk or a stranger left there is found by the block's hash, fetched
// again and written over.
//
// Invariants:
//
//   - No byte is given out that was not verified against its block's hash.
//   - Nothing that goes wrong with the directory fails a read: the read then costs a
//     request. The bytes that the disk does not take stay in memory for a while.
//   - A segment is fetched once, however many wait for it, and a fetch outlives the
//     reader that started it. A reader waits no longer than its context and Patience.
//   - A pack that hangs holds no more than its share of the fetches.
//   - The files of the packs take no more than Limit on the disk, except that another
//     process's writes are seen with a delay (each counts its own at once, and the
//     directory whenever it wrote a 32nd of Limit, and every minute). An evicted file
//     that another process still has open is let go by it within seconds.
//   - Any number of processes may share the directory: all write the same bytes to the
//     same places. A file is written by its name and not by an old handle, so what is
//     written is where others find it.
//   - Names in the directory that are not a pack's are left alone.
//
// Locks: Cache.mu guards the packs, what is known of their segments, and the loads and
// fetches under way; it is held for no system call. space.sweeping is taken before it,
// the mutexes of memory, disk and space.mu are leaves. Evicting holds an flock on
// <dir>/.lock, which nobody waits for.
//
// A block that the disk has is read by the goroutine that asks for it; that alone does
// not heed the context. What needs the bucket runs in goroutines that Close waits for.
// The time of day is asked of Config.Now; what waits does so by the runtime's timers.
//
// The package does not know trees, does not upload, and never writes to the bucket. It
// syncs nothing to the disk: a cache may forget.
package cache
