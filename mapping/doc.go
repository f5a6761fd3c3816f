// Package mapping decides which folders of a workspace and of a user's groups a
// container gets, where, and how; and it joins these decisions with those about
// profiles into the one Policy that proxy and driver work by.
//
// Invariants:
//   - A target gets one mapping: the workspace's before a group's, a group with a lower
//     priority number before one with a higher, the profile's home before all.
//   - What loses is named in a warning, never dropped in silence.
//
// A Policy is immutable once built. Nothing here touches the disk: whether a source
// exists is for the driver to find out.
package mapping
