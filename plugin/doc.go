// Package plugin is the volume driver: it answers Docker's volume protocol
// (https://docs.docker.com/engine/extend/plugins_volume/), keeps its records of volumes and
// of who has them mounted, and makes, mounts, resets and measures directory profiles.
//
// Invariants:
//   - Remove forgets a volume and never touches data; only reset and purge delete, and
//     never a profile that is mounted.
//   - What a mount serves follows from the volume's name, its options and the policy of
//     the moment; nothing else travels with Mount.
//   - A reference is one (volume, id) of Docker's. References belong to the directory
//     they led to: as long as one is left, and for Linger longer, it stays mounted.
//   - A record reaches the disk before its answer reaches Docker, so a driver that is
//     killed knows after its restart what it had said.
//   - No call blocks for ever: what touches a profile's file system goes through the
//     guard, which bounds the time of the caller and the number of threads a hung file
//     system can hold.
//
// Locks: a backing's own lock (locks) serialises what is done to one directory and is
// taken first; Driver.mu guards the maps and is held for no system call but the write
// of a record. The usage walker and the deletions run in goroutines that Close waits for.
//
// The package does not read the configuration; it is told the Rules, and told again
// when they change.
package plugin
