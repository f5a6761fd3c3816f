package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// SQLite's files and the bytes in them that its connections lock; see
// https://sqlite.org/fileformat2.html, https://sqlite.org/lockingv3.html and
// https://sqlite.org/walformat.html.
const (
	sqliteMagic = "SQLite format 3\x00"
	walSuffix   = "-wal"
	undoSuffix  = "-journal"
	shmSuffix   = "-shm"

	pendingByte  = 0x40000000 // of the database: a writer waits for the readers to end
	reservedByte = pendingByte + 1
	sharedFirst  = pendingByte + 2
	sharedSize   = 510

	checkpointByte = 121 // of the -shm file
	readerByte     = 124
)

// errLocked says that a database was in use for longer than a scan waits, or its locks
// cannot be taken. errUnready says that this was so at this moment, as its files were
// being made or replaced.
var (
	errLocked  = errors.New("the database is locked")
	errUnready = errors.New("the database is being opened or replaced")
)

// lockTime is how long a database may be locked, and be waited for; logTime is how long
// it may be locked if it has a write-ahead log, whose writers need not wait.
const (
	lockTime = time.Second
	logTime  = 30 * time.Second
)

// database is an SQLite database in upper, and the way to it in the merged home. Locks
// are taken there, on the files as users have them open: overlayfs passes no locks on to
// the files of upper.
type database struct {
	merged string
	dirs   []string
	name   string
	dir    int // its directory in upper
}

func (d *database) close() { unix.Close(d.dir) }

// locks are a reader's and a checkpointer's locks on a database. While they are held,
// its file does not change and its log is not begun anew: without a log, writers cannot
// commit while there are readers; with one, they append to it, and only a checkpoint
// copies from it to the file. So a writer in WAL mode is never held up, and another one
// sees an ordinary reader.
type locks struct {
	files    []int     // whose open file descriptions own the locks
	reserved bool      // a writer is at work on what it has not committed
	patience time.Time // until when others' locks are waited for
	deadline time.Time // when the locks must be given up
}

// release gives the locks up. It may be called several times, and on nil.
func (l *locks) release() {
	if l != nil {
		for _, fd := range l.files {
			unix.Close(fd)
		}
		l.files = nil
	}
}

// lock takes the locks. upper is the database's file in upper; stuck says that it was
// locked all the time at the last scan, as it is by a program that keeps it for itself,
// so that waiting is of no use.
func (d *database) lock(ctx context.Context, upper int, stuck bool) (*locks, error) {
	l := &locks{deadline: time.Now().Add(lockTime)}
	if !stuck {
		l.patience = l.deadline
	}
	if err := d.take(ctx, l, upper); err != nil {
		l.release()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, errMoved) || errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("%w: %w", errUnready, err)
		}
		return nil, fmt.Errorf("%w: %w", errLocked, err)
	}
	return l, nil
}

func (d *database) take(ctx context.Context, l *locks, upper int) error {
	dir, err := openDeep(d.merged, d.dirs)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	file, err := openBeneath(dir, d.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	l.files = append(l.files, file)
	for _, step := range [...]unix.Flock_t{
		{Type: unix.F_RDLCK, Start: pendingByte, Len: 1},
		{Type: unix.F_RDLCK, Start: sharedFirst, Len: sharedSize},
		{Type: unix.F_UNLCK, Start: pendingByte, Len: 1},
	} {
		if err := lockRange(ctx, file, step, l.patience); err != nil {
			return err
		}
	}
	var head [20]byte
	if n, err := readFull(upper, head[:], 0); err != nil || n < len(head) {
		return errors.Join(err, errMoved)
	}
	if head[18] != 2 && head[19] != 2 { // no write-ahead log
		l.reserved = isLocked(file, reservedByte)
	} else if err := d.takeLog(ctx, l, dir); err != nil {
		return err
	} else {
		l.deadline = time.Now().Add(logTime)
	}
	return sameFile(file, upper) // now that nobody may write to it
}

// takeLog takes the locks of the write-ahead log. Its index must be in upper already,
// as it is where anybody uses the log: opening it for locks copies nothing then. It is
// not there yet while the first one opens the database.
func (d *database) takeLog(ctx context.Context, l *locks, dir int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(d.dir, d.name+shmSuffix, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	shm, err := openBeneath(dir, d.name+shmSuffix, unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	l.files = append(l.files, shm)
	for _, step := range [...]unix.Flock_t{
		{Type: unix.F_WRLCK, Start: checkpointByte, Len: 1},
		{Type: unix.F_RDLCK, Start: readerByte, Len: 1},
	} {
		if err := lockRange(ctx, shm, step, l.patience); err != nil {
			return err
		}
	}
	return nil
}

// openDeep opens the directory that names lead to from root, one after the other.
func openDeep(root string, names []string) (int, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for _, name := range names {
		if err != nil {
			return -1, err
		}
		var next int
		next, err = openBeneath(fd, name, unix.O_PATH|unix.O_DIRECTORY)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}

// sameFile compares the merged file with that of upper. Inode numbers would not do, as
// the merged file may have the lower one's.
func sameFile(merged, upper int) error {
	var m, u unix.Stat_t
	if err := errors.Join(unix.Fstat(merged, &m), unix.Fstat(upper, &u)); err != nil {
		return err
	}
	a, b := stampOf(&m), stampOf(&u)
	if a.ino = b.ino; a != b {
		return errMoved
	}
	return nil
}

// lockRange takes or gives up one lock; it waits for others until patience ends.
func lockRange(ctx context.Context, fd int, l unix.Flock_t, patience time.Time) error {
	for {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l)
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(patience) {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// isLocked reports whether somebody holds a lock on a byte for writing.
func isLocked(fd int, at int64) bool {
	l := unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

// complete reports whether files are the database with the log and journal that it has
// now. A journal that is no more, or that a writer has not committed (which has changed
// nothing in the database), is of no use: it is saved empty. In a journal that is used
// again and again, the records of earlier transactions follow the new ones, and a copy
// that is made while it is written can mix them in a way that SQLite does not see.
func (d *database) complete(files []*reading, l *locks) bool {
	for _, suffix := range [...]string{"", walSuffix, undoSuffix} {
		var st unix.Stat_t
		err := unix.Fstatat(d.dir, d.name+suffix, &st, unix.AT_SYMLINK_NOFOLLOW)
		i := slices.IndexFunc(files, func(f *reading) bool { return f.part == suffix })
		there := err == nil && (i < 0 || st.Ino == files[i].rec.ino)
		switch {
		case suffix == undoSuffix && l != nil && (l.reserved || i >= 0 && !there):
			if i >= 0 {
				files[i].blank = true
			}
		case there != (i >= 0):
			return false
		}
	}
	return true
}
