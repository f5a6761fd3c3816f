//go:build integration

package s3_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestModel does random things to a mounted home and to a plain directory, among them
// what may befall a mount, and compares the two in full all the time. VALISE_SOAK makes
// it run for longer, VALISE_SEED repeats one run.
func TestModel(t *testing.T) {
	total := time.Minute
	if v := os.Getenv("VALISE_SOAK"); v != "" {
		var err error
		total, err = time.ParseDuration(v)
		must(t, err)
	}
	seed, once := uint64(time.Now().UnixNano()), false
	if v := os.Getenv("VALISE_SEED"); v != "" {
		var err error
		seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
		once = true
	}
	for end := time.Now().Add(total); time.Now().Before(end) && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { modelRun(t, seed) })
		if once {
			break
		}
	}
}

func modelRun(t *testing.T, seed uint64) {
	p := newProfile(t)
	m := &model{twin: newTwin(p.host("first")), rnd: rand.New(rand.NewPCG(seed, 0))}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("VALISE_SEED=%d repeats this; the last steps:\n%s", seed, strings.Join(m.log, "\n"))
		}
	})
	m.mount()
	m.both(func(dir string) { fill(t, dir+"/a") })
	m.adopt()
	m.host.sync()
	for range 40 {
		for range m.rnd.IntN(40) {
			m.step()
		}
		m.adopt()
		m.compare("after some steps")
		e := events[m.rnd.IntN(len(events))]
		m.note("%s", e.name)
		e.do(m)
		m.compare("after: " + e.name)
	}
	m.mounted.end()
	m.compare("restored at the end", p.restore(""))
	p.check()
}

// model is a home, its twin, and what was done to them.
type model struct {
	*twin
	rnd     *rand.Rand
	mounted *mount
	kills   int // of the mount's worker
	log     []string

	// inSnapshot are the twin's inodes in the snapshot that is mounted, with their numbers of
	// names. Of several names writing to one separates it from the others there, which is
	// documented, and not in the twin: so they are only removed. A further name given to
	// one may be taken for another file, which is documented, too: so none is given.
	inSnapshot map[uint64]uint64
}

func (m *model) note(format string, args ...any) {
	if m.log = append(m.log, fmt.Sprintf(format, args...)); len(m.log) > 300 {
		m.log = m.log[100:]
	}
}

// mount mounts; saves go on beside the steps.
func (m *model) mount() {
	m.t.Helper()
	m.mounted, m.kills = m.host.mount("--sync-interval", "1s"), 0
}

// freeze notes what is in the snapshot that will be mounted.
func (m *model) freeze() {
	m.inSnapshot = map[uint64]uint64{}
	must(m.t, filepath.WalkDir(m.plain, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := lstat(path)
		m.inSnapshot[st.Ino] = st.Nlink
		return err
	}))
}

func lstat(path string) (st unix.Stat_t, err error) { return st, unix.Lstat(path, &st) }

// events are what may befall a mount; the home must be the same afterwards.
var events = []struct {
	name string
	do   func(*model)
}{
	{"sync", func(m *model) { m.host.sync() }},
	{"sync, and look at the snapshot", func(m *model) {
		m.host.sync()
		m.compare("restored", m.host.restore(""))
	}},
	{"the worker is killed", func(m *model) {
		if m.kills++; m.kills < 4 { // the fifth in a minute would be too many
			m.mounted.killWorker()
		}
	}},
	{"the worker is killed during a sync", func(m *model) {
		if m.kills++; m.kills >= 4 {
			return
		}
		m.worried(func() { m.mounted.killWorker() })
	}},
	{"everything is killed", func(m *model) {
		m.mounted.killAll()
		m.mount()
	}},
	{"everything is killed during a sync", func(m *model) {
		m.worried(func() { m.mounted.killAll() })
		m.mount()
	}},
	{"everything is killed and the rest saved", func(m *model) {
		m.mounted.killAll()
		m.host.finish().wants(m.t, 0)
		m.freeze()
		m.mount()
	}},
	{"unmount and mount", func(m *model) {
		m.mounted.end()
		m.freeze()
		m.mount()
	}},
	{"unmount and mount on another host", func(m *model) {
		m.mounted.end()
		m.freeze()
		m.host = m.host.profile.host("other")
		m.mount()
	}},
}

// worried lets something happen while a sync is under way, whose answer does not matter.
func (m *model) worried(do func()) {
	s := start(m.t, m.host.env, "sync", m.host.dir)
	time.Sleep(time.Duration(m.rnd.IntN(60)) * time.Millisecond) // a random moment
	do()
	s.wait(m.t, time.Minute)
}

// pick walks down the twin at random; it may return a name that is not there. Paths are
// relative.
func (m *model) pick(dirOnly bool) string {
	path := "."
	for {
		entries, err := os.ReadDir(filepath.Join(m.plain, path))
		if err != nil || len(entries) == 0 || dirOnly && m.rnd.IntN(3) == 0 {
			return path
		}
		e := entries[m.rnd.IntN(len(entries))]
		if dirOnly && !e.IsDir() {
			return path
		}
		path = filepath.Join(path, e.Name())
		if !e.IsDir() || !dirOnly && m.rnd.IntN(3) == 0 {
			return path
		}
	}
}

// fresh is a name in some directory, of few, so that names come again.
func (m *model) fresh() string {
	return filepath.Join(m.pick(true), string(rune('a'+m.rnd.IntN(8))))
}

// step does one thing to both; that some are refused is part of it.
func (m *model) step() {
	p := m.pick(false)
	if m.rnd.IntN(3) == 0 {
		p = m.fresh()
	}
	to := m.fresh()
	if m.rnd.IntN(3) == 0 {
		to = cmp.Or(m.pick(false), to)
	}
	s := steps[m.rnd.IntN(len(steps))]
	// Directories at long paths are not renamed, which is documented.
	if p == "." || to == "." || strings.Count(p+to, "/") > 12 || m.names(p) > 1 || m.names(p+"~") > 1 || m.names(to) > 1 ||
		s.name == "link" && m.names(p) > 0 {
		return
	}
	seed := m.rnd.Uint64()
	do := func(dir string) error {
		return s.do(die{rand.New(rand.NewPCG(seed, 0))}, filepath.Join(dir, p), filepath.Join(dir, to))
	}
	want, got := do(m.plain), do(m.host.dir)
	m.note("%s %s → %s: %v", s.name, p, to, errno(got))
	if errno(got) != errno(want) {
		m.t.Fatalf("%s %s → %s: got %v, want %v", s.name, p, to, got, want)
	}
}

func errno(err error) error {
	if e := unix.Errno(0); errors.As(err, &e) {
		return e
	}
	return err
}
