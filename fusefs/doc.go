// Package fusefs shows the tree of a snapshot as a read-only FUSE file system, made to
// be the lower directory of an overlayfs.
//
// A node's number is its row of the tree plus one, so that there is no state per node:
// the root is row 0 and FUSE's node 1, all names of a hard-linked file are the node of
// the one row that has its attributes, and FORGET has nothing to do. As a tree never
// changes, the kernel is told to keep everything: names (also those that are not
// there), attributes, symbolic links, directories and pages. OPEN, OPENDIR and FLUSH
// are answered with ENOSYS, which the kernel takes as "never ask again, and keep the
// cache", and so are the requests for extended attributes where no file has any. What
// was read once is therefore read again without a request.
//
// Content comes from a Content, block by block. A read waits for it in a goroutine of
// its own and keeps nothing else waiting. It ends when its caller is interrupted, with
// EINTR, or when Config.Patience is over or the block cannot be had, with EIO; never
// with wrong data.
//
// The file system outlives its process: whoever holds a duplicate of the device
// (Server.Device) and the kernel's first request (Server.Init) can Resume it in a new
// one. Open files, working directories and requests under way go on. Requests that the
// dead process had taken are sent again by kernels from 6.9 on; before, they hang until
// they are killed or the connection is aborted.
//
// The mount is nodev and nosuid, which is for those who come to it directly: under an
// overlayfs the overlay's own flags decide. Permissions are checked by the kernel.
// POSIX ACLs are given to it where the tree has any, as overlayfs enforces only those
// that its lower file system declares.
//
// The process that serves must not execute a program that lies in its own mount, nor
// start one with its working directory there: Go stops while a child comes to life, and
// the child would wait for it.
//
// Locks: each guards only what stands below it, is held for no call into another
// package, and none is taken while another is held. The package writes nothing, keeps
// no content, and knows neither the store nor the overlay.
package fusefs
