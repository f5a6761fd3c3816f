package layer

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// TestModel does random things to a home, and compares at random times the base with
// the patch applied against what the kernel shows. VALISE_MODEL_TIME makes it run for
// longer than the usual seconds, VALISE_MODEL_SEED repeats one run.
func TestModel(t *testing.T) {
	total := 8 * time.Second
	if v := os.Getenv("VALISE_MODEL_TIME"); v != "" {
		var err error
		total, err = time.ParseDuration(v)
		must(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("VALISE_MODEL_SEED"); v != "" {
		var err error
		seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
	}
	met := map[string]int{}
	end := time.Now().Add(total)
	for ; time.Now().Before(end) && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { modelRun(t, seed, met) })
	}
	t.Log("met:", met)
	for _, what := range []string{"gone", "opaque", "moved directory", "attributes", "moved attributes", "further name", "hole"} {
		if met[what] == 0 && !t.Failed() {
			t.Errorf("no patch had this: %s", what)
		}
	}
}

// tally counts what a patch has, so that TestModel knows whether it met all.
func tally(met map[string]int, patch *tree.Tree) {
	for i := range patch.Len() {
		n := tree.Node(i)
		a, end := patch.Attr(n), int64(0)
		flags := patch.Flags(n)
		for what, is := range map[string]bool{
			"gone": flags == tree.Gone, "opaque": flags == tree.Opaque, "moved directory": flags == tree.Moved,
			"attributes": flags == tree.Meta, "moved attributes": flags == tree.Meta|tree.Moved, "further name": patch.File(n) != n,
		} {
			if is {
				met[what]++
			}
		}
		for e := range patch.Extents(n) {
			if e.Offset > end {
				met["hole"]++
			}
			end = e.End()
		}
		if a.IsRegular() && flags == 0 {
			met["content"]++
		}
	}
}

// modelRun goes through several mounts, each on the tree that the one before made.
func modelRun(t *testing.T, seed uint64, met map[string]int) {
	m := &model{rnd: rand.New(rand.NewPCG(seed, 0))}
	m.stack = newStack(t, func(lower string) {
		m.root = lower
		for range 60 {
			m.step()
		}
	})
	for round := range 4 {
		m.root = m.Target
		for range 4 {
			for range m.rnd.IntN(40) {
				m.step()
			}
			scan := m.same()
			tally(met, m.patch)
			if m.rnd.IntN(2) == 0 {
				m.scan.Committed(scan)
			}
			if m.rnd.IntN(6) == 0 {
				m.rescan(nil)
			}
		}
		if t.Failed() {
			t.Logf("round %d, the last steps:\n%s", round, strings.Join(m.log, "\n"))
			return
		}
		m.next(round)
	}
}

// model is a home and what was done to it.
type model struct {
	*stack
	rnd  *rand.Rand
	root string
	log  []string
}

// next unmounts and mounts again on what the final scan saw, with an empty upper.
func (m *model) next(round int) {
	t := m.t
	want := list(t, m.Target)
	must(t, m.Unmount())
	scan, whole := m.take(Final)
	if !scan.Quiescent {
		t.Fatalf("the final scan is not quiescent")
	}
	got := listTree(t, m.sink, whole)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("merged home against final tree (-want +got):\n%s", diff)
	}
	dir := filepath.Join(filepath.Dir(m.Target), strconv.Itoa(round))
	m.Lower, m.Upper, m.Work = dir+"/lower", dir+"/upper", dir+"/work"
	for _, d := range []string{m.Lower, m.Upper, m.Work} {
		must(t, os.MkdirAll(d, 0o755))
	}
	materialise(t, m.sink, whole, m.Lower)
	m.mount(nil)
}

// pick walks down from the root at random; it may return a name that is not there.
func (m *model) pick(dirOnly bool) string {
	path := m.root
	for {
		entries, err := os.ReadDir(path)
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

// step does one thing; that some are refused is part of it.
func (m *model) step() {
	p := m.pick(false)
	if m.rnd.IntN(3) == 0 {
		p = m.fresh()
	}
	if p == m.root {
		return
	}
	s := steps[m.rnd.IntN(len(steps))]
	to := m.fresh()
	if m.rnd.IntN(3) == 0 {
		to = cmp.Or(m.pick(false), to)
	}
	err := s.do(m, p, to)
	m.log = append(m.log, fmt.Sprintf("%s %s → %s: %v", s.name, strings.TrimPrefix(p, m.root), strings.TrimPrefix(to, m.root), err))
	if len(m.log) > 200 {
		m.log = m.log[100:]
	}
}

func (m *model) bytes() []byte {
	n := m.rnd.IntN(300)
	if m.rnd.IntN(10) == 0 {
		n = m.rnd.IntN(3 << 20)
	}
	p := make([]byte, n)
	for i := range min(n, 100) {
		p[m.rnd.IntN(n)] = byte(i)
	}
	return p
}

func (m *model) open(p string, flags int, do func(*os.File) error) error {
	f, err := os.OpenFile(p, flags|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	return do(f)
}

func (m *model) create(p string) error {
	return m.open(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, func(f *os.File) error { _, err := f.Write(m.bytes()); return err })
}

type step struct {
	name string
	do   func(m *model, p, to string) error
}

var steps = []step{
	{"create", func(m *model, p, _ string) error { return m.create(p) }},
	{"create", func(m *model, _, to string) error { return m.create(to) }},
	{"append", func(m *model, p, _ string) error {
		return m.open(p, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.Write(m.bytes()); return err })
	}},
	{"truncate", func(m *model, p, _ string) error { return os.Truncate(p, int64(m.rnd.IntN(4000))) }},
	{"sparse write", func(m *model, p, _ string) error {
		return m.open(p, os.O_WRONLY, func(f *os.File) error {
			_, err := f.WriteAt(m.bytes(), int64(m.rnd.IntN(3<<20)))
			return err
		})
	}},
	{"rename", func(_ *model, p, to string) error { return unix.Rename(p, to) }},
	{"rename", func(_ *model, p, to string) error { return unix.Rename(p, to) }},
	{"rename beside", func(m *model, p, _ string) error {
		return unix.Rename(p, filepath.Join(filepath.Dir(p), string(rune('a'+m.rnd.IntN(8)))))
	}},
	{"exchange", func(_ *model, p, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	}},
	{"link", func(_ *model, p, to string) error { return os.Link(p, to) }},
	{"symlink", func(m *model, _, to string) error { return os.Symlink(strings.Repeat("x/", 1+m.rnd.IntN(200)), to) }},
	{"mkdir", func(_ *model, p, _ string) error { return os.Mkdir(p, 0o755) }},
	{"mkdir", func(_ *model, _, to string) error { return os.Mkdir(to, 0o700) }},
	{"remove", func(_ *model, p, _ string) error { return os.Remove(p) }},
	{"remove and mkdir", func(_ *model, p, _ string) error { os.RemoveAll(p); return os.Mkdir(p, 0o711) }},
	{"remove and create", func(m *model, p, _ string) error {
		if m.rnd.IntN(2) == 0 {
			os.RemoveAll(p)
		}
		return m.create(p)
	}},
	{"chmod", func(m *model, p, _ string) error {
		return unix.Fchmodat(unix.AT_FDCWD, p, uint32(0o400|m.rnd.IntN(0o10000)), unix.AT_SYMLINK_NOFOLLOW)
	}},
	{"chown", func(m *model, p, _ string) error { return os.Lchown(p, m.rnd.IntN(5), m.rnd.IntN(5)) }},
	{"setxattr", func(m *model, p, _ string) error {
		return unix.Lsetxattr(p, fmt.Sprint("user.", m.rnd.IntN(3)), []byte(fmt.Sprint(m.rnd.IntN(100))), 0)
	}},
	{"removexattr", func(m *model, p, _ string) error { return unix.Lremovexattr(p, fmt.Sprint("user.", m.rnd.IntN(3))) }},
	{"set an ACL", func(m *model, p, _ string) error {
		return unix.Lsetxattr(p, "system.posix_acl_access", accessACL(uint32(m.rnd.IntN(9))), 0)
	}},
	{"utimens", func(m *model, p, _ string) error {
		ts := []unix.Timespec{{}, {Sec: int64(m.rnd.IntN(2e9)), Nsec: int64(m.rnd.IntN(1e9))}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
	}},
	{"mkfifo", func(_ *model, _, to string) error { return unix.Mkfifo(to, 0o600) }},
	{"punch", func(m *model, p, _ string) error {
		return m.open(p, os.O_WRONLY, func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(m.rnd.IntN(1<<20)), 1<<20)
		})
	}},
	{"mapped store", func(m *model, p, _ string) error {
		return m.open(p, os.O_RDWR, func(f *os.File) error {
			fi, err := f.Stat()
			if err != nil || fi.Size() == 0 {
				return err
			}
			data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			data[m.rnd.IntN(len(data))]++
			return unix.Munmap(data)
		})
	}},
}

// accessACL is an access control list that names user uid.
func accessACL(uid uint32) []byte {
	p := []byte{2, 0, 0, 0}
	for _, e := range [...]struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 6, 1<<32 - 1}, {0x02, 4, uid}, {0x04, 4, 1<<32 - 1}, {0x10, 6, 1<<32 - 1}, {0x20, 4, 1<<32 - 1}} {
		p = append(p, byte(e.tag), byte(e.tag>>8), byte(e.perm), byte(e.perm>>8),
			byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	return p
}
