// Package supervise keeps a FUSE connection over the death of the process that serves
// it: the supervisor starts that process (the worker), is handed a duplicate of the
// /dev/fuse descriptor, the kernel's first request and the lock on the state, and, if
// the worker is killed or crashes, starts another one with them. Open files, working
// directories and reads under way in the mount go on, and no other process takes the
// state for that of a dead mount meanwhile.
//
// Invariants: there is one worker at a time; a worker that ends by its own exit code is
// not started again; the supervisor serves nothing and holds nothing else, so that it
// has no reason to die. If the supervisor dies, its worker goes on alone.
//
// Run has one goroutine of its own, which ends with it; so has a Worker, which lasts as
// long as the process.
package supervise
