//go:build integration

package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// standIns answer for plain drivers whose tests have ended. dockerd never forgets a
// driver that it found by its socket: it asks each for every volume that it does not
// know, and waits half a minute for one that is gone.
type standIns struct {
	mu    sync.Mutex // guards open
	open  []net.Listener
	serve sync.WaitGroup
}

var retired standIns

// answer takes a driver's socket over.
func (s *standIns) answer(socket string) error {
	_ = os.Remove(socket) // of a driver that was killed
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.open = append(s.open, l)
	s.mu.Unlock()
	s.serve.Go(func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reply := map[string]string{
				"/Plugin.Activate":           `{"Implements":["VolumeDriver"]}`,
				"/VolumeDriver.List":         `{"Volumes":[]}`,
				"/VolumeDriver.Capabilities": `{"Capabilities":{"Scope":"local"}}`,
			}[r.URL.Path]
			if reply == "" {
				reply = `{"Err":"no such volume"}`
			}
			fmt.Fprint(w, reply)
		}))
	})
	return nil
}

// close removes the sockets.
func (s *standIns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.open {
		l.Close()
	}
	s.serve.Wait()
}

// removeStale removes the sockets of test processes that were killed.
func removeStale() error {
	sockets, err := filepath.Glob("/run/docker/plugins/valise-*-*.sock")
	if err != nil {
		return err
	}
	for _, path := range sockets {
		var pid, n int
		_, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(path), "valise-"), "%d-%d.sock", &pid, &n)
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
