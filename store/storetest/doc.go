// Package storetest has what tests of and above package store need: Memory, a bucket
// in memory; Run, which holds any store.Bucket to the contract; Faulty and Recorder,
// which stand between a test's subject and a Bucket to make it fail and to see what
// was asked of it.
//
// Invariants:
//
//   - Memory keeps the whole contract, so what passes with it may rely on nothing
//     that a real store does not do.
//   - Every fault of a script fires, or the test fails.
//
// All of it is safe for concurrent use. It is for tests only: nothing here is
// persistent, and nothing is limited in size. Real servers are in package server.
package storetest
