// Package session keeps one profile mounted: it takes the lease, shows the newest
// snapshot as the lower and a local directory as the upper of an overlay, saves what
// is new in the upper every interval, and ends when everything is saved.
//
// Invariants:
//
//   - One process at a time works on a profile's directory below the state directory:
//     it holds an flock on its file "lock".
//   - An upper is used on its exact base only. state.json names the base, and the
//     base's tree lies beside it. Both are durable before the upper is mounted.
//   - An upper is deleted only after state.json says durably that all of it is saved:
//     it is renamed aside first. Whatever else is found is taken up, never deleted.
//   - What Sync has acknowledged is in a snapshot that is the head, or, if the lease
//     was lost, in one beside the main line.
//
// Locks: Session.syncing orders saves, Session.mu guards what status tells and is a
// leaf. The keeper of the lease, the timer of saves, the prefetch and the control
// socket run in goroutines that Close waits for.
//
// The package reads no configuration and starts no process; the supervisor that keeps
// the FUSE device over the death of this process is package supervise.
package session
