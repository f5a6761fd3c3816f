package layer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// item is a row of the patch to be: of a file, or that a name is gone.
type item struct {
	dir    int
	name   string
	rec    *record // nil: gone
	flags  tree.Flags
	origin []byte
	void   bool // it turned out to be wrong
}

// place is an entry: the item of its directory, and its name there.
type place struct {
	dir  int
	name string
}

// walk goes once over upper, from the root down, and has read what is not known.
type walk struct {
	s     *Scanner
	mode  Mode
	out   *Scan
	dirs  openDirs
	items []item
	order []*dir // in which they were listed
	todo  []*dir // to be listed, the next one last
	buf   []byte

	displaced []place // where files were that were met elsewhere later
	doubling  bool    // of a file that is met twice both places count

	moved  []tree.Node       // directories of the base that have another path now
	closed map[tree.Node]int // those that are not looked into, with their items

	jobs *errgroup.Group // for run's time only

	mu        sync.Mutex // the rest is the jobs' too
	disturbed string     // why the names may not be those of one moment
	torn      bool       // see tear
	skipped   []Skipped
}

// readers is how many files are read at a time.
const readers = 4

func newWalk(s *Scanner, mode Mode, out *Scan) *walk {
	return &walk{s: s, mode: mode, out: out, closed: map[tree.Node]int{}, buf: make([]byte, 64<<10)}
}

func (w *walk) close() { w.dirs.close() }

// run walks. last says that no other walk follows, even if this one is disturbed.
func (w *walk) run(ctx context.Context, last bool) error {
	w.jobs, ctx = errgroup.WithContext(ctx)
	w.jobs.SetLimit(readers)
	err := w.walk(ctx)
	if err == nil && last {
		err = w.catchUp(ctx)
	}
	if err == nil && last {
		err = w.lookAgain(ctx)
	}
	if jobErr := w.jobs.Wait(); jobErr != nil {
		return jobErr // it ended the walk too
	}
	if err != nil {
		return err
	}
	return w.verify()
}

func (w *walk) walk(ctx context.Context) error {
	root := &dir{fd: int(w.s.upper.Fd()), base: tree.Root, inBase: true}
	w.dirs.root = root
	var st unix.Stat_t
	if err := unix.Fstat(root.fd, &st); err != nil {
		return err
	}
	rec := w.record(st.Ino)
	if _, err := w.lookAt(rec, &st, func() (int, error) { return unix.Dup(root.fd) }); err != nil {
		return err
	}
	root.stamp.ino = st.Ino
	rec.met = w
	w.items = append(w.items, item{rec: rec})
	w.todo = append(w.todo, root)
	return w.listAll(ctx)
}

// listAll lists the directories that are to be listed, and all below.
func (w *walk) listAll(ctx context.Context) error {
	for len(w.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := w.list(ctx, d, nil); err != nil {
			return err
		}
		w.order = append(w.order, d)
	}
	return nil
}

// list adds the entries of d to the patch, but for those that have rows already.
func (w *walk) list(ctx context.Context, d *dir, rows map[string]int) error {
	if w.items[d.item].void {
		return nil
	}
	fd, err := w.dirs.get(d)
	if err != nil {
		w.lost(d.path(), err)
		w.passedBy(d)
		return nil
	}
	now := w.s.Now()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", d.path(), err)
	}
	d.stamp = stampOf(&st)
	if recent(&st, now) {
		w.disturb("a directory was changed just now")
	}
	entries, err := readDir(fd, w.buf)
	if err != nil {
		w.skip(d.path(), err)
		return nil
	}
	l := &listing{walk: w, dir: d, prefix: w.prefix(d), entries: entries, rows: rows, first: len(w.todo)}
	return l.add(ctx)
}

// prefix is what the filter sees before the names in d.
func (w *walk) prefix(d *dir) string {
	if w.s.Filter.empty() || d.parent == nil {
		return ""
	}
	return d.path() + "/"
}

// verify checks that the directories are as they were before they were listed. As none
// changed from the listing of the last to the check of the first, what was listed is
// what stood there at that time.
func (w *walk) verify() error {
	if w.disturbed != "" {
		return nil
	}
	for _, d := range w.order {
		if now, err := w.dirs.stampOf(d); err != nil || now != d.stamp {
			w.disturb(fmt.Sprintf("directory %q was changed meanwhile", d.path()))
			return nil
		}
	}
	return nil
}

// recent reports whether a file that was looked at from now on could change and keep
// its change time.
func recent(st *unix.Stat_t, now time.Time) bool {
	age := now.Sub(time.Unix(st.Ctim.Unix()))
	return age <= granularity && age >= -granularity
}

// record returns what is remembered of an inode.
func (w *walk) record(ino uint64) *record {
	r := w.s.known[ino]
	if r == nil {
		r = &record{ino: ino}
		w.s.known[ino] = r
	}
	r.seen = w.s.seq
	return r
}

// lookAt finds out what is not known of a file whose content is not read: it sets
// rec.now. open returns a descriptor of the file, which lookAt closes.
func (w *walk) lookAt(rec *record, st *unix.Stat_t, open func() (int, error)) (*version, error) {
	if v := rec.current(stampOf(st), w.s.seq); v != nil {
		rec.now, rec.asked = v, w.s.seq
		return v, nil
	}
	now := w.s.Now()
	fd, err := open()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var opened unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return nil, err
	}
	if opened.Ino != st.Ino || opened.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return nil, errMoved
	}
	v := newVersion(&opened)
	v.settled = !recent(&opened, now)
	if opened.Mode&unix.S_IFMT == unix.S_IFLNK {
		v.symlink, err = grow(func(buf []byte) (int, error) {
			n, err := unix.Readlinkat(fd, "", buf)
			if n == len(buf) {
				err = unix.ERANGE
			}
			return n, err
		})
	} else {
		err = readXattrs(fd, v)
	}
	if err != nil {
		return nil, err
	}
	rec.now, rec.asked = v, w.s.seq
	return v, nil
}

// disturb notes that the walk may have seen a file twice or not at all.
func (w *walk) disturb(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.disturbed == "" {
		w.disturbed = why
	}
}

// skip notes a file that is not saved, though it should be.
func (w *walk) skip(path string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skipped = append(w.skipped, Skipped{path, err.Error()})
	w.torn = true
}

// tear notes that a file's content is not of one moment, or is an earlier one.
func (w *walk) tear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.torn = true
}

// stale notes that a file has the content of an earlier patch.
func (w *walk) stale(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Stale = append(w.out.Stale, path)
}

// lost notes that a file was not where it was listed.
func (w *walk) lost(path string, err error) {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, errMoved) {
		w.disturb(fmt.Sprintf("%q: %v", path, err))
		return
	}
	w.skip(path, err)
}
