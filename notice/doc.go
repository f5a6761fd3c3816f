// Package notice tells users, inside their sessions, that their home comes near its
// size limit, is over it, or fits again: by a command in each running container that
// has the home, and by a webhook for whoever else wants to know. It reads the fill
// from the volumes' Status at the Docker daemon, so it works wherever the daemon is.
//
// Invariants:
//   - Texts and names reach the command as parts of single arguments; no shell sees them
//     unless the operator's command is one, and then behind its script.
//   - One pass at a time, each bounded: a daemon, container or webhook that hangs costs
//     its own time limit, never a goroutine that stays.
//   - A container is told once for each change, and again while the limit is exceeded
//     only after Config.Repeat. What was told is kept in memory alone.
//
// Run owns the state of the volumes; within a pass each container's part of it belongs
// to the goroutine that tells that container. The webhook has a goroutine of its own,
// and its events are values.
package notice
