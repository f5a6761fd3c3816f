// Package tree holds the metadata of a home as one flat table: every name, its
// attributes and where its content lies. docs/format.md describes the bytes.
//
// There are two kinds. A whole tree is complete. A patch says what is different from
// a base, as an overlayfs upper directory does: names that are gone, directories that
// replace what was below them or continue another directory of the base, files whose
// attributes changed and whose content is the base's. Apply makes a whole tree from
// both.
//
// Rows are in breadth-first order: row 0 is the root, the children of a directory are
// one run of rows sorted by name, and a file with several names has one row with its
// attributes, to which the rows of its other names point.
//
// A Tree never changes and is safe for concurrent use; it may lie in a mapped file. A
// Builder has one owner. Parse checks every offset once, so that reading a Tree never
// fails afterwards. The package reads no files, but for Map, and knows no store.
package tree
