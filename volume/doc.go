// Package volume holds what travels from proxy to driver through the Docker Engine:
// the name and the options of a volume. It is the whole contract between the two.
//
// A volume is one of three things: the profile of a user in a workspace, one volume
// mapping, or an explicit path below a configured root. Its options say which; they
// carry identity and launch overrides and nothing else, so that everything an
// operator may change takes effect at the next mount.
//
// Invariants:
//   - Parse(s.Options()) gives s again, and equal Specs have equal Names: Docker sends
//     no Create for a name it knows, so two volumes that differ in any option must
//     differ in name.
//   - An option that is unknown, out of place or in contradiction to another is
//     refused by name.
package volume
