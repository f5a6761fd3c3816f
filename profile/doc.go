// Package profile decides which profile a caller gets: which workspace a container
// belongs to, whether the caller may have a profile, in which launch mode, at which
// path, under which limit.
//
// Invariants:
//   - A profile's path names its user: a path without {username} or {user_id} never
//     passes Workspace.Validate.
//   - The decision depends on the policy and the caller only, so proxy and driver,
//     which may run on two machines, come to the same one.
//
// A Policy is immutable once built; a reload builds a new one. Nothing here touches
// the disk.
package profile
