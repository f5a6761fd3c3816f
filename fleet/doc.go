// Package fleet runs the processes that serve profiles on S3, one `valise mount` for each
// mounted profile, and saves what such processes left unsaved.
//
// Invariants:
//
//   - A process owes its life to nobody: it goes on when whoever started it dies, and is
//     found again by its control socket in the run directory. So a driver that is
//     replaced disturbs no session, and a process that crashes no other profile.
//   - What a process needs is in settings.json beside the profile's state, durable before
//     the process starts, and holds no secret.
//   - What is in the state directory is taken up or saved, never deleted here.
//
// Locks: Fleet.mu guards the map of profiles that are being finished. Whoever calls sees
// to it that there is one call at a time for each mount point (the driver holds the
// backing's lock). Processes that end are waited for in goroutines of their own, which
// last as long as those.
package fleet
