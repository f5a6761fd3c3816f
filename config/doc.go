// Package config turns the configuration file into checked settings. It is the only
// reader of that file and of the files it names.
//
// Invariants:
//   - Load reports every fault at once, each with its key and line, or returns settings
//     that need no further checking. There is nothing in between.
//   - A key that no setting has is a fault that names the nearest one.
//   - No secret stands in the file: secrets come from files or from the environment.
//
// A Config is immutable. Load checks what the file says, not the machine: whether
// directories exist is for the driver to find out at each mount.
package config
