// Package layer is the writable layer of a mounted home: an overlayfs of a read-only
// lower directory, which shows a snapshot, and a local upper directory, which holds
// what the user changed since. Stack mounts and unmounts it; Scanner turns what stands
// in upper into a patch of the snapshot's tree. The format of an upper directory is the
// kernel's, see https://docs.kernel.org/filesystems/overlayfs.html.
//
// Invariants:
//
//   - An upper directory belongs to the exact base it was written on: renamed
//     directories and changed attributes in it refer to paths of that base.
//   - Scan only reads. It never opens a file of upper for writing, and through the
//     mounted home it opens nothing for writing but the -shm file of an SQLite database
//     that the user has changed, to lock it.
//   - A file's content is taken as known only if it was read while nobody could write
//     to it (a read lease was held from the beginning to the end) and its change time
//     was older by then than the clock's granularity. All else is read again by every
//     scan, whatever its times say, for a store through a mapping or a long write leave
//     no trace in them.
//   - The content that the Sink of one scan stored is used by later ones only after
//     Committed.
//   - A scan that is Quiescent holds the names of one moment: all directories kept
//     their times from before they were listed until all were listed.
//
// Locks and leases: a Scanner has one owner and calls its Sink from several goroutines.
// A user's process that opens a file for writing while it is read waits until the lease
// is given up, some 10 ms at most; one that opens it with O_NONBLOCK gets EWOULDBLOCK in
// that time, as fcntl(2) describes. An SQLite database that is in use is read under
// SQLite's own locks, those of a reader and of a checkpoint, for a second at most.
//
// What users see of overlayfs, and this package does not hide: writing to one name of a
// file with several names that the snapshot holds separates the names (index=off, since
// an index ties upper to its lower's file handles); a file of the snapshot that is given
// a further name may show two inode numbers when the kernel has forgotten it; and a
// directory whose path is longer than 256 bytes cannot be renamed (EXDEV; mv copies it
// then).
//
// It needs the rights of root, with CAP_SYS_ADMIN, CAP_LEASE and CAP_MKNOD where they
// are limited; CheckUpper tells what is missing.
//
// The package stores nothing, knows no snapshots but the tree it is given, and does not
// decide when to scan.
package layer
