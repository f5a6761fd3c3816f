// Package extract writes what a tree describes out again: into a directory or as a tar
// stream.
//
// Invariants of ToDir:
//
//   - Nothing outside of the directory is touched, and no symbolic link in it is
//     followed, whoever else writes there meanwhile: names are resolved below its
//     descriptor only. Hence paths may be longer than PATH_MAX, and names have any bytes.
//   - Under its name a file is complete, with its attributes, or absent: it is made under
//     a temporary name (.valise- and 16 digits), which is removed if anything fails. Only
//     a process that is killed leaves one.
//   - Until their attributes are set, new files and directories are open to nobody else.
//   - What the snapshot says of an owner, a mode, a time or an extended attribute and
//     the file system refuses is a note, not an error; content that is missing never is.
//   - No file gets set-id bits whose owner could not be set.
//   - When it returns without an error, all is on the disk.
//
// Invariants of ToTar: the same tree and path give the same bytes, however the reads
// turn out; parents come before what is in them.
//
// Memory: beside a few bytes for each name, no more than 32 blocks at a time.
//
// The package knows no store and no cache: blocks come from a Source, which verifies
// them. It deletes nothing that the snapshot does not have. It restores no ctime, atime
// or inode number, and reads no patches: apply them first. It needs Linux 5.8.
package extract
