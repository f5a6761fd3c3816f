package layer

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// read starts the reading of a file that is open as opened, together with the files
// that it is of use with.
func (l *listing) read(fd int, name string, rec *record, opened int) error {
	j := &job{w: l.walk}
	if main, ok := l.databaseOf(name); ok && l.database(j, fd, main, name, rec, opened) {
		l.start(j)
		return l.ctx.Err()
	}
	j.files = append(j.files, &reading{rec: rec, fd: opened, path: l.dir.child(name)})
	l.start(j)
	return l.ctx.Err()
}

// start waits until fewer than readers files are being read.
func (l *listing) start(j *job) {
	for _, f := range j.files {
		f.rec.job = l.walk
	}
	l.jobs.Go(func() error { return j.run(l.ctx) })
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

// database makes j the reading of database main, of which the file name is open as
// opened. It is false where main is no database, or is being read already.
func (l *listing) database(j *job, fd int, main, name string, rec *record, opened int) bool {
	for _, suffix := range [...]string{"", walSuffix, undoSuffix} {
		f := &reading{rec: rec, fd: opened, path: l.dir.child(main + suffix), part: suffix}
		if main+suffix != name {
			if f.rec, f.fd = l.companion(fd, main+suffix); f.rec == nil {
				if suffix == "" {
					return false
				}
				continue
			}
		}
		j.files = append(j.files, f)
		if suffix == "" && !isDatabase(f.fd) {
			break
		}
	}
	if dir, err := unix.Dup(fd); err == nil && isDatabase(j.files[0].fd) {
		j.db = &database{merged: l.s.Merged, dirs: l.dir.names(), name: main, dir: dir}
		return true
	} else if err == nil {
		unix.Close(dir)
	}
	for _, f := range j.files {
		if f.fd != opened {
			unix.Close(f.fd)
		}
	}
	j.files = nil
	return false
}

// companion opens another file of a database; the record is nil if there is none.
func (l *listing) companion(fd int, name string) (*record, int) {
	var st unix.Stat_t
	if !l.has(name) || l.s.Filter.matchOne(l.prefix+name, false) ||
		unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, -1
	}
	rec := l.record(st.Ino)
	if rec.job == l.walk {
		return nil, -1
	}
	opened, v, err := l.open(fd, name, &st)
	if err != nil {
		return nil, -1
	}
	if v.marks.metacopy || v.marks.whiteout {
		unix.Close(opened)
		return nil, -1
	}
	return rec, opened
}

// isDatabase reports whether an open file begins as an SQLite database does. One whose
// content is still the lower file's is empty in upper, and so is none.
func isDatabase(fd int) bool {
	var head [len(sqliteMagic)]byte
	n, err := readFull(fd, head[:], 0)
	return err == nil && n == len(head) && string(head[:]) == sqliteMagic
}
