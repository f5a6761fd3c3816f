// Package identity answers who is calling: it reads what a container create, a
// socket's peer or a TLS certificate says of the user, and joins it into one Caller.
//
// Invariants:
//   - A Username, a user id and every other value that a Template puts into a path
//     is one path component: it can neither be empty, nor climb, nor hold a slash.
//     A name that would is refused, never rewritten.
//   - All presets that answer must agree. A disagreement, or one fact given twice, is
//     an error and never a choice.
//
// The package believes what it is handed: whether labels and environment may be
// believed at all is the listener's decision, made by the choice of presets.
// Everything here is a value, safe for concurrent use; nothing touches the disk but
// the look-up of a Unix peer in the user database.
package identity
