// Package integration holds the tests that run everything for real: a private Docker
// Engine, the driver in both its forms, the proxy, and Debian's docker and
// docker-compose. Run them by scripts/test.sh, which makes the engine, sets the
// environment and looks for traces afterwards; without the build tag `integration` the
// package is empty.
//
// A rig is a driver in one form with a proxy, a configuration and a directory of its
// own. Rigs share the engine and nothing else, so tests run side by side; what a rig
// has made goes when its test ends, in whatever way.
//
// Invariants:
//   - Nothing sleeps where a condition can be waited for, see eventually.
//   - Nothing is skipped: what a test needs and does not find makes it fail.
package integration
