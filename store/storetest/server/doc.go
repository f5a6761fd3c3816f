// Package server starts real S3 servers for tests, and a proxy that makes the way to
// them bad.
//
// MinIO and VersityGW start a server of the test's own: on a free port of the
// loopback interface, with TLS by an authority of its own, its data in a temporary
// directory. Proxy starts toxiproxy in front of one, Forward an HTTP proxy that sees
// and changes what it passes, Metadata what an EC2 instance asks for its role's
// credentials. The programs are those of
// `scripts/s3.sh install`, in build/s3/bin or $VALISE_S3_BIN; a test that has not got
// them fails.
//
// Invariants: what a function returns answers requests; when the test ends, or its
// process dies, the server is gone. A Server may be used by many goroutines at once.
// Nothing here is for anything but tests, and no server is shared between tests: one
// starts in about a second, so group what can use the same one below it with t.Run.
package server
