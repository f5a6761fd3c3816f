// Package endpoint opens the sockets that valise listens on, and tells who connected.
//
// Invariants:
//   - A Unix socket appears under its path with its final owner and mode, and is taken
//     from no process that still listens on it.
//   - A peer's uid counts in this process's namespaces only; Peer says when it is not
//     at home in them.
//
// Everything is safe for concurrent use.
package endpoint
