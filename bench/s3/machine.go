package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dropCaches makes the kernel forget what it read: pages, names and inodes.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// family is a process and all its descendants.
func family(pid int) []int {
	out := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return out
	}
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // that thread has ended
		}
		for _, word := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				out = append(out, family(child)...)
			}
		}
	}
	return out
}

// memory is what processes have in memory, in bytes.
type memory struct {
	rss, pss, anonymous int64
}

func memoryOf(pids []int) (m memory, err error) {
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) != 3 || f[2] != "kB" {
				continue
			}
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return m, err
			}
			switch f[0] {
			case "Rss:":
				m.rss += kb << 10
			case "Pss:":
				m.pss += kb << 10
			case "Anonymous:":
				m.anonymous += kb << 10
			}
		}
	}
	return m, nil
}

// cpuTime is what processes have computed so far, in seconds.
func cpuTime(pids []int) (seconds float64) {
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		f := strings.Fields(rest)
		if len(f) < 13 {
			continue
		}
		for _, ticks := range f[11:13] {
			if n, err := strconv.ParseInt(ticks, 10, 64); err == nil {
				seconds += float64(n) / 100
			}
		}
	}
	return seconds
}

// fuseRequests counts what the kernel asks of a FUSE file system.
type fuseRequests struct {
	root, instance string
	mounted        bool
	n              int
}

// watchFUSE counts the requests to the FUSE mount at or below dir from now on. Kernels
// before 6.11 cannot tell; then it is nil.
func (b *bench) watchFUSE(dir string) (*fuseRequests, error) {
	minor, err := fuseMinor(dir)
	if err != nil {
		return nil, err
	}
	w := &fuseRequests{root: "/sys/kernel/tracing"}
	if _, err := os.Stat(w.root + "/events"); err != nil {
		w.root = filepath.Join(b.dirs.work, "tracing")
		if err := os.MkdirAll(w.root, 0o700); err != nil {
			return nil, err
		}
		if err := syscall.Mount("none", w.root, "tracefs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount tracefs: %w", err)
		}
		w.mounted = true
	}
	w.instance = filepath.Join(w.root, "instances", fmt.Sprintf("valise-bench-%d", os.Getpid()))
	if err := os.Mkdir(w.instance, 0o700); err != nil {
		return nil, err
	}
	event := w.instance + "/events/fuse/fuse_request_send/"
	if _, err := os.Stat(event); err != nil {
		return nil, w.stop()
	}
	for _, set := range [][2]string{{"filter", fmt.Sprintf("connection == %d", minor)}, {"enable", "1"}} {
		if err := os.WriteFile(event+set[0], []byte(set[1]), 0); err != nil {
			_ = w.stop()
			return nil, err
		}
	}
	return w, nil
}

// count returns how many there were, and of what kinds as far as the kernel remembers.
func (w *fuseRequests) count() (total int, kinds map[string]int, err error) {
	stats, err := filepath.Glob(w.instance + "/per_cpu/cpu*/stats")
	if err != nil {
		return 0, nil, err
	}
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			return 0, nil, err
		}
		for line := range strings.Lines(string(data)) {
			what, n, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if what == "entries" || what == "overrun" {
				count, err := strconv.Atoi(n)
				if err != nil {
					return 0, nil, err
				}
				total += count
			}
		}
	}
	trace, err := os.ReadFile(w.instance + "/trace")
	if err != nil {
		return 0, nil, err
	}
	kinds = map[string]int{}
	for s := bufio.NewScanner(bytes.NewReader(trace)); s.Scan(); {
		if _, after, ok := strings.Cut(s.Text(), "(FUSE_"); ok {
			kind, _, _ := strings.Cut(after, ")")
			kinds[kind]++
		}
	}
	return total, kinds, nil
}

func (w *fuseRequests) stop() error {
	err := os.Remove(w.instance)
	if w.mounted {
		if err := syscall.Unmount(w.root, 0); err != nil {
			return err
		}
	}
	return err
}

// fuseMinor is the minor device number of the one FUSE mount at or below dir, which
// names its connection.
func fuseMinor(dir string) (int, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		_, after, _ := strings.Cut(line, " - ")
		if (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) && strings.HasPrefix(after, "fuse") {
			_, minor, _ := strings.Cut(f[2], ":")
			return strconv.Atoi(minor)
		}
	}
	return 0, fmt.Errorf("no FUSE mount below %s", dir)
}
