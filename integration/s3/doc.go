//go:build integration

// Package s3 runs the built command as a user does: it mounts profiles that lie on
// a real MinIO with TLS, with credentials that may do what docs/s3.md asks for and
// nothing else, and looks at what comes back. `make build` and `scripts/s3.sh install`
// make what it runs; it needs root.
//
// A profile is a place of its own on the one server that the tests share. A host is a
// state directory with a name, so that a new one is another machine as far as valise can
// tell. A mount is a running `valise mount`. All that a test has made goes when it ends,
// and the run fails if a mount, a process, a socket or a file of it is left.
//
// Invariants:
//   - Nothing sleeps where a condition can be waited for, see eventually.
//   - Nothing is skipped: what a test needs and does not find makes it fail.
//   - Trees are compared in full, see list.
//
// VALISE_BINARY is the program, build/valise of the repository by default. VALISE_SOAK=30m
// lets the model test run for that long, VALISE_SEED=N repeats one run of it.
package s3
