package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A process that finds no certificates of a system has those that are compiled in.
func TestRootsWithoutASystem(t *testing.T) {
	if os.Getenv("SSL_CERT_FILE") != "/nonexistent" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	amazon := func(subject []byte) bool { return strings.Contains(string(subject), "Amazon Root CA 1") }
	if subjects := pool.Subjects(); !slices.ContainsFunc(subjects, amazon) { //nolint:staticcheck // it is no system's
		t.Errorf("of %d authorities none is Amazon's", len(subjects))
	}
}
