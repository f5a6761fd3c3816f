// Package beneath reaches files below a directory that an operator configured, and
// never leaves it: not by "..", not by a symbolic link, not by one that somebody puts
// in the way a moment later.
//
// Everything is resolved by openat2(2) from the root's descriptor with RESOLVE_BENEATH
// and RESOLVE_NO_SYMLINKS, and what follows (ownership, mode, bind mount) is done to
// the descriptor that was opened, never to a path. Users own what lies below a root,
// so between any two calls a directory may have become something else.
//
// A Node is safe for concurrent use until it is closed. Calls block as long as the
// file system does; bounding them is the caller's affair. It needs Linux 5.12
// (openat2, mount_setattr).
package beneath
