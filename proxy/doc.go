// Package proxy stands between the clients of the Docker Engine and its daemon. It
// passes the whole Engine API on as it is, and rewrites one thing: the create of a
// container of a configured workspace gets the caller's profile and volume mappings.
//
// Invariants:
//   - What is not rewritten reaches the other side byte for byte, in both directions,
//     and as soon as it is there.
//   - A body that is rewritten is decoded once, strictly, and what goes on is the
//     document that was decoded: the daemon can't read anything else out of it than the
//     proxy did.
//   - Everything injected is a volume of the driver, named and described by package
//     volume. The proxy never touches a path on a disk.
//   - A create that is refused has changed nothing at the daemon.
//
// Each request is served by its own goroutine; what they share is immutable (Config),
// atomic (the policy) or locked (the forwarder's tunnels). Shutdown waits for them and
// for the removal of control volumes.
//
// The proxy does not decide whether a caller may talk to the daemon at all: its
// listeners are trusted, and whoever can connect may do what the daemon does.
package proxy
