package layer

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// read starts the reading of a file that is open as opened, together with the files
// that it is of use with.
func (l *listing) read(ctx context.Context, fd int, name string, rec *record, opened int) error {
	j := &job{w: l.walk}
	f := &reading{rec: rec, fd: opened, path: l.dir.child(name)}
	main, ok := l.databaseOf(name)
	if ok && main != name && l.wasRead(fd, main) {
		return l.late(rec, opened)
	}
	if !ok || !l.database(j, fd, main, name, f) {
		j.files = append(j.files, f)
	}
	// The index of a log is made anew when nobody has the database open.
	log, isIndex := strings.CutSuffix(name, shmSuffix)
	f.loose = isIndex && l.has(log+walSuffix)
	l.start(ctx, j)
	return ctx.Err()
}

// start waits until fewer than readers files are being read.
func (l *listing) start(ctx context.Context, j *job) {
	for _, f := range j.files {
		f.rec.job = l.walk
	}
	l.jobs.Go(func() error { return j.run(ctx) })
}

// databaseOf returns the name of the database that a file may be, or be the log or
// journal of.
func (l *listing) databaseOf(name string) (string, bool) {
	for _, suffix := range [...]string{walSuffix, undoSuffix} {
		if main, ok := strings.CutSuffix(name, suffix); ok && l.has(main) {
			return main, !l.s.Filter.matchOne(l.prefix+main, false)
		}
	}
	return name, true
}

func (l *listing) has(name string) bool {
	_, ok := slices.BinarySearchFunc(l.entries, name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
	return ok
}

// database makes j the reading of database main, of which file is a part, called name.
// It is false where main is no database, or is being read already.
func (l *listing) database(j *job, fd int, main, name string, file *reading) bool {
	part := strings.TrimPrefix(name, main)
	first := file
	if part != "" {
		if first = l.companion(fd, main); first == nil {
			return false
		}
	}
	dir := -1
	if isDatabase(first.fd) {
		dir, _ = unix.Dup(fd)
	}
	if dir < 0 {
		if first != file {
			unix.Close(first.fd)
		}
		return false
	}
	first.rec.db = l.walk
	j.db = &database{merged: l.s.Merged, dirs: l.dir.names(), name: main, dir: dir}
	j.files = append(j.files, first)
	file.part = part
	for _, suffix := range [...]string{walSuffix, undoSuffix} {
		f := file
		if suffix != part {
			if f = l.companion(fd, main+suffix); f == nil {
				continue
			}
			f.part = suffix
		}
		j.files = append(j.files, f)
	}
	return true
}

// wasRead reports whether this walk has read the database main already.
func (l *listing) wasRead(fd int, main string) bool {
	var st unix.Stat_t
	if unix.Fstatat(fd, main, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	rec := l.s.known[st.Ino]
	return rec != nil && rec.db == l.walk
}

// late saves a log or journal empty that came up after its database was read.
func (l *listing) late(rec *record, opened int) error {
	defer unix.Close(opened)
	var st unix.Stat_t
	if err := unix.Fstat(opened, &st); err != nil {
		return err
	}
	rec.now, rec.asked = newVersion(&st).empty(), l.s.seq
	return nil
}

// companion opens another file of a database; it is nil if there is none.
func (l *listing) companion(fd int, name string) *reading {
	var st unix.Stat_t
	if !l.has(name) || l.s.Filter.matchOne(l.prefix+name, false) ||
		unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	rec := l.record(st.Ino)
	if rec.job == l.walk {
		return nil
	}
	opened, v, err := l.open(fd, name, &st)
	if err != nil {
		return nil
	}
	if v.marks.metacopy || v.marks.whiteout {
		unix.Close(opened)
		return nil
	}
	return &reading{rec: rec, fd: opened, path: l.dir.child(name)}
}

// isDatabase reports whether an open file begins as an SQLite database does. One whose
// content is still the lower file's is empty in upper, and so is none.
func isDatabase(fd int) bool {
	var head [len(sqliteMagic)]byte
	n, err := readFull(fd, head[:], 0)
	return err == nil && n == len(head) && string(head[:]) == sqliteMagic
}
