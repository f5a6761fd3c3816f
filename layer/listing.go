package layer

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// listing is a directory of upper whose entries are being added to the patch. Its
// descriptor is opened again for each use, as the entries' directories are opened too.
type listing struct {
	*walk
	dir     *dir
	entries []dirent
	rows    map[string]int // items that there are already, by name
	prefix  string         // of the entries' paths, for the filter
	first   int            // where the directories below begin in walk.todo
}

func (l *listing) add(ctx context.Context) error {
	for _, e := range l.entries {
		fd, err := l.dirs.get(l.dir)
		if err != nil {
			l.lost(l.dir.path(), err)
			l.passedBy(l.dir)
			return nil
		}
		if err := l.name(ctx, fd, e.name); err != nil {
			return err
		}
	}
	slices.Reverse(l.todo[l.first:]) // the first one comes next
	return nil
}

// replaced is how often an entry that is replaced while it is looked at is tried.
const replaced = 10

// name adds the entry of that name.
func (l *listing) name(ctx context.Context, fd int, name string) error {
	var err error
	for range replaced {
		var st unix.Stat_t
		if err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			break
		}
		if l.again(name, &st) {
			return nil
		}
		if err = l.entry(ctx, fd, name, &st); !errors.Is(err, errMoved) {
			return err
		}
	}
	l.lost(l.dir.child(name), err)
	return nil
}

// again reports whether an entry has a row already, here or, as a directory that was
// moved while the walk went on, elsewhere. Of a file that was met before the later place
// counts: it was moved here, over another one perhaps, or the other one is deleted and
// this one has its number. What stands at the earlier place by now is looked at later.
func (l *listing) again(name string, st *unix.Stat_t) bool {
	if i, ok := l.rows[name]; ok {
		if l.items[i].rec != nil || isWhiteout(st) {
			return true
		}
		l.items[i].void = true // there was a whiteout before
	}
	rec := l.s.known[st.Ino]
	if rec == nil || rec.met != l.walk || st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	l.disturb("a file was met twice")
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true
	}
	if !l.doubling {
		it := &l.items[rec.item]
		it.void = true
		l.displaced = append(l.displaced, place{it.dir, it.name})
	}
	l.s.known[st.Ino] = &record{ino: st.Ino, saved: rec.saved} // a job may have the other
	return false
}

// entry adds what stands in upper under name.
func (l *listing) entry(ctx context.Context, fd int, name string, st *unix.Stat_t) error {
	kind := st.Mode & unix.S_IFMT
	if isWhiteout(st) {
		l.gone(name)
		return nil
	}
	filtered := l.s.Filter.matchOne(l.prefix+name, kind == unix.S_IFDIR)
	if filtered && kind != unix.S_IFDIR {
		// A file in place of a directory: the user has deleted that one.
		if n, ok := l.lower(name); ok && l.s.Base.Attr(n).IsDir() {
			l.gone(name)
		}
		return nil
	}
	switch kind {
	case unix.S_IFDIR:
		l.directory(fd, name, st, !filtered)
	case unix.S_IFREG:
		return l.file(ctx, fd, name, st)
	case unix.S_IFLNK, unix.S_IFIFO:
		rec := l.record(st.Ino)
		if _, err := l.look(rec, fd, name, st); err == nil {
			l.put(item{name: name, rec: rec})
		}
	case unix.S_IFSOCK:
		l.note(name, "sockets are not saved")
		l.gone(name) // what it replaced
	default:
		l.note(name, "device nodes are not saved")
		l.gone(name)
	}
	return nil
}

// look is lookAt for an entry; what goes wrong is noted.
func (l *listing) look(rec *record, fd int, name string, st *unix.Stat_t) (*version, error) {
	v, err := l.lookAt(rec, st, func() (int, error) { return openBeneath(fd, name, unix.O_PATH) })
	if err != nil {
		l.lost(l.dir.child(name), err)
	}
	return v, err
}

func (l *listing) put(it item) {
	it.dir = l.dir.item
	if it.rec != nil {
		it.rec.met, it.rec.item = l.walk, len(l.items)
	}
	l.items = append(l.items, it)
}

// note says that a file is not saved by intent: the scan is none the worse for it.
func (l *listing) note(name, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipped = append(l.skipped, Skipped{l.dir.child(name), reason})
}

// lower finds the entry of the base that name continues or hides.
func (l *listing) lower(name string) (tree.Node, bool) {
	if !l.dir.inBase {
		return 0, false
	}
	return l.s.Base.Lookup(l.dir.base, []byte(name))
}

// gone adds that the base's entry is no more, if there is one.
func (l *listing) gone(name string) {
	if _, ok := l.lower(name); ok {
		l.put(item{name: name, flags: tree.Gone})
	}
}

// directory adds a directory and, to be listed later, what is in it.
func (l *listing) directory(fd int, name string, st *unix.Stat_t, enter bool) {
	rec := l.record(st.Ino)
	v, err := l.look(rec, fd, name, st)
	if err != nil {
		return
	}
	d := &dir{parent: l.dir, name: name, item: len(l.items), fd: -1, marks: v.marks}
	d.stamp.ino = st.Ino
	it := item{name: name, rec: rec}
	natural, shared := l.lower(name)
	shared = shared && l.s.Base.Attr(natural).IsDir()
	switch origin, ok := l.continued(name, v.marks); {
	case v.marks.opaque || !ok && shared:
		it.flags = tree.Opaque
	case ok:
		d.base, d.inBase = origin, true
		if !shared || origin != natural {
			it.flags, it.origin = tree.Moved, l.s.Base.Path(origin)
			l.moved = append(l.moved, origin)
		}
	}
	l.put(it)
	if enter {
		l.todo = append(l.todo, d)
	} else if d.inBase {
		l.closed[d.base] = d.item
	}
}

// continued finds the directory of the base that one of upper continues.
func (l *listing) continued(name string, m marks) (n tree.Node, ok bool) {
	if !m.opaque {
		n, ok = l.redirected(name, m.redirect)
	}
	return n, ok && l.s.Base.Attr(n).IsDir()
}

// redirected finds what the base has at a redirect: a path from its root or the name
// beside, or the same name where there is none.
func (l *listing) redirected(name, redirect string) (tree.Node, bool) {
	switch {
	case redirect == "":
		return l.lower(name)
	case strings.HasPrefix(redirect, "/"):
		n, ok := l.s.Base.LookupPath([]byte(redirect))
		return n, ok && n != tree.Root
	}
	return l.lower(redirect)
}

// file adds a regular file, and has it read if its content is not known.
func (l *listing) file(ctx context.Context, fd int, name string, st *unix.Stat_t) error {
	rec := l.record(st.Ino)
	if rec.job == l.walk { // a further name of a file that is being read
		l.put(item{name: name, rec: rec})
		return nil
	}
	if v := rec.current(stampOf(st), l.s.seq); v != nil {
		rec.now, rec.asked = v, l.s.seq
		if rec.torn == l.s.seq {
			l.tear()
		}
		l.known(name, st, rec)
		return nil
	}
	opened, v, err := l.open(fd, name, st)
	if errors.Is(err, errMoved) {
		return err
	}
	if err != nil {
		l.lost(l.dir.child(name), err)
		return nil
	}
	if l.s.Sink == nil || v.marks.metacopy || l.dir.marks.whiteouts && v.marks.whiteout {
		unix.Close(opened)
		rec.now, rec.asked = v, l.s.seq
		l.known(name, st, rec)
		return nil
	}
	l.put(item{name: name, rec: rec})
	return l.read(ctx, fd, name, rec, opened)
}

// known adds a file that need not be read.
func (l *listing) known(name string, st *unix.Stat_t, rec *record) {
	switch m := rec.now.marks; {
	case l.dir.marks.whiteouts && m.whiteout:
		l.gone(name)
	case m.metacopy:
		l.meta(name, st, rec)
	default:
		l.put(item{name: name, rec: rec})
	}
}

// open opens a regular file and reads its marks.
func (l *listing) open(fd int, name string, st *unix.Stat_t) (int, *version, error) {
	now := l.s.Now()
	flags := uint64(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME)
	opened, err := openBeneath(fd, name, flags)
	if errors.Is(err, unix.EPERM) {
		opened, err = openBeneath(fd, name, flags&^unix.O_NOATIME)
	}
	if err != nil {
		return -1, nil, err
	}
	var at unix.Stat_t
	if err := unix.Fstat(opened, &at); err != nil || at.Ino != st.Ino {
		unix.Close(opened)
		return -1, nil, errors.Join(err, errMoved)
	}
	v := newVersion(&at)
	v.settled = !recent(&at, now)
	if err := readXattrs(opened, v); err != nil {
		unix.Close(opened)
		return -1, nil, err
	}
	return opened, v, nil
}

// meta adds a file whose attributes alone are in upper.
func (l *listing) meta(name string, st *unix.Stat_t, rec *record) {
	n, ok := l.redirected(name, rec.now.marks.redirect)
	if !ok || !l.s.Base.Attr(n).IsRegular() {
		l.skip(l.dir.child(name), errors.New("the lower file with its content is not there"))
		return
	}
	it := item{name: name, rec: rec, flags: tree.Meta}
	// A further name in another directory has another file of the base beside it.
	if natural, shared := l.lower(name); !shared || natural != n || st.Nlink > 1 {
		it.flags, it.origin = tree.Meta|tree.Moved, l.s.Base.Path(n)
	}
	l.put(it)
}
