// Package migrate brings plain objects, one for each file as rclone, s3fs, goofys and
// the AWS CLI leave them below a prefix, into a local directory, from which a profile
// is imported.
//
// Invariants:
//
//   - The source is only listed and read.
//   - Nothing outside of the directory and its sidecar is touched, and no symbolic link
//     in it is followed, wherever the objects' links lead: names are resolved below its
//     descriptor only. Keys that are no safe relative path are skipped and reported.
//   - Under its name a file is complete, with its attributes, or absent. Until Fetch
//     returns without an error the directory is open to its owner alone.
//   - When Fetch returns without an error the directory holds what the prefix held at
//     one time between its last two listings, which agree, less what Result.Skipped has;
//     and all of it is on the disk.
//   - A Fetch that was killed is continued by another of the same source and directory:
//     what the journal has is not read again, what it does not have is removed and
//     fetched. An entry of the journal is written after the file is on the disk.
//
// The sidecar is a directory beside the staging directory (see Sidecar): the last
// listing, the journal and a lock. The caller removes it, with Forget, when the
// directory is of no more use.
//
// Owners are the caller's, whatever the metadata says: a home is one user's. Set-id bits
// of files stay only where the metadata names that very owner. What is taken from which
// tool is in docs/migration.md.
//
// Memory: some 60 bytes for each object, and a buffer for each of 16 workers. It needs
// Linux 5.8, and root's right to give files away.
package migrate
