package layer

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// job is the reading of one file, or of the files of one SQLite database, which are of
// use only as they are at one time. The first one is the database.
type job struct {
	w     *walk
	files []*reading
	db    *database // nil: not a database

	leases []*lease // of an attempt, one for each file
}

// reading is one file of a job.
type reading struct {
	rec    *record
	fd     int
	path   string // for messages
	part   string // of a database: the end of the name
	out    *version
	before unix.Stat_t
	recent bool // it may change and keep its times
	quiet  bool // it had no writer from before until after it was read
	blank  bool // its content is of no use with the database's: it is saved empty
	loose  bool // any state will do
	pieces []*piece
}

// large is the size from which a file that always has a writer is read less often, and
// not several times in one scan.
const large = 64 << 20

// maxWait is the most scans that pass until a large file is read again.
const maxWait = 16

// rereads is how often a file that changed while it was read is read in one scan.
const rereads = 3

func (j *job) close() {
	for _, f := range j.files {
		unix.Close(f.fd)
	}
	if j.db != nil {
		j.db.close()
	}
}

// run reads the files until they stayed as they were from the beginning to the end.
func (j *job) run(ctx context.Context) error {
	defer j.close()
	lock := j.db != nil && j.w.mode != Final && j.w.s.Merged != ""
	for try := 1; ; try++ {
		whole, err := j.attempt(ctx, lock)
		switch {
		case errors.Is(err, errWaits):
			return j.fallBack(nil)
		case errors.Is(err, errLocked) && lock:
			lock = false
		case errors.Is(err, errIO):
			return j.fallBack(err)
		case err != nil:
			return err
		case whole:
			j.take()
			return nil
		case try >= rereads || j.size() > large:
			return j.fallBack(nil)
		}
	}
}

func (j *job) size() (sum int64) {
	for _, f := range j.files {
		sum += f.before.Size
	}
	return sum
}

// errWaits says that a large file is not read by this scan, errIO that a file cannot be
// read.
var (
	errWaits = errors.New("it is read by a later scan")
	errIO    = errors.New("it cannot be read")
)

// attempt reads the files once. whole says that nothing changed meanwhile.
func (j *job) attempt(ctx context.Context, lock bool) (whole bool, err error) {
	quiet := j.lease()
	defer j.release()
	if !quiet && j.waits() {
		return false, errWaits
	}
	copying := &copier{s: j.w.s, leases: j.leases}
	var locks *locks // nil: none, or none needed
	if lock && !quiet {
		first := j.files[0]
		locks, err = j.db.lock(ctx, first.fd, first.rec.stuck)
		switch first.rec.stuck = errors.Is(err, errLocked); {
		case err == nil:
			defer locks.release()
			copying.deadline = locks.deadline
		case !errors.Is(err, errUnready): // else nobody may be at work on it
			return false, err
		}
	}
	if err = j.begin(); err == nil {
		complete := j.db == nil || j.db.complete(j.files, locks)
		err = j.copy(ctx, copying)
		whole = err == nil && j.unchanged(locks) && complete
	}
	j.release()
	locks.release()
	if sinkErr := copying.wait(); sinkErr != nil {
		return false, sinkErr
	}
	if err != nil {
		return false, err
	}
	j.finish()
	j.count(copying)
	return whole, nil
}

// lease takes a lease on each file; quiet says that none has a writer.
func (j *job) lease() (quiet bool) {
	quiet = true
	for _, f := range j.files {
		l, err := takeLease(f.fd)
		if err != nil {
			j.w.s.warnOnce("files are read again by every scan", err)
		}
		j.leases = append(j.leases, l)
		f.quiet = l.valid
		quiet = quiet && l.valid
	}
	return quiet
}

// release gives the leases up.
func (j *job) release() {
	for _, l := range j.leases {
		l.release()
	}
	j.leases = nil
}

// begin takes the files' stats. The pages that a file's writers have mapped are made
// read-only first, by writing them out, so that the next store to them changes the
// file's times again.
func (j *job) begin() error {
	for _, f := range j.files {
		if !f.quiet {
			if err := unix.Fdatasync(f.fd); err != nil {
				return fmt.Errorf("%q: %w: %w", f.path, errIO, err)
			}
		}
	}
	for _, f := range j.files {
		now := j.w.s.Now()
		if err := unix.Fstat(f.fd, &f.before); err != nil {
			return fmt.Errorf("%q: %w: %w", f.path, errIO, err)
		}
		f.recent = recent(&f.before, now)
		f.out = newVersion(&f.before)
		f.out.born, f.pieces, f.blank = born(f.fd), nil, false
		if err := readXattrs(f.fd, f.out); err != nil {
			return fmt.Errorf("%q: %w: %w", f.path, errIO, err)
		}
	}
	return nil
}

// copy hands the files' content to the sink; what is known already is left out.
func (j *job) copy(ctx context.Context, c *copier) error {
	for _, f := range j.files {
		if f.unread() != nil || f.blank {
			continue
		}
		var err error
		if f.pieces, err = c.copy(ctx, f.fd, f.before.Size); err != nil {
			return fmt.Errorf("%q: %w", f.path, err)
		}
	}
	return nil
}

// unchanged compares the files' stats with those before. Under the locks of SQLite it
// is enough that the database is the same: what is appended to its log meanwhile is not
// valid without the part that follows, and whoever writes a journal has found that the
// one before is not needed, and has not changed the database yet.
func (j *job) unchanged(locks *locks) bool {
	for i, f := range j.files {
		f.quiet = j.leases[i].held()
		var after unix.Stat_t
		if err := unix.Fstat(f.fd, &after); err != nil {
			return false
		}
		switch same := stampOf(&after) == stampOf(&f.before); {
		case same || f.loose:
		case locks == nil || i == 0:
			return false
		case f.part == undoSuffix:
			f.blank = true
		}
	}
	return locks != nil || j.db == nil || j.db.complete(j.files, nil)
}

// finish makes versions of what was read.
func (j *job) finish() {
	for _, f := range j.files {
		if v := f.unread(); f.blank {
			f.out = f.out.empty()
		} else if v != nil {
			f.out.extents = v.extents
		} else {
			f.out.extents = extentsOf(f.pieces, f.rec.saved)
		}
		f.out.settled = f.quiet && !f.recent && !f.blank
	}
}

// unread returns the version whose content the file still has, if that is known.
func (f *reading) unread() *version {
	if v := f.rec.saved; v != nil && v.settled && v.stamp == f.out.stamp {
		return v
	}
	return nil
}

func (j *job) count(c *copier) {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.out.Files += c.files
	j.w.out.Bytes += c.bytes
}

// waits reports whether the files, which have a writer, are left for a later scan: they
// are large, had one at the last scans too, and an earlier patch has them.
func (j *job) waits() bool {
	f := j.files[0]
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil || st.Size <= large || j.w.mode != Regular || j.w.s.seq >= f.rec.due {
		return false
	}
	return f.rec.earlier(born(f.fd)) != nil
}

// take makes what was read the state of the files.
func (j *job) take() {
	for _, f := range j.files {
		f.rec.now, f.rec.asked = f.out, j.w.s.seq
		f.rec.counts(f.quiet, j.w.s.seq)
	}
}

// counts notes whether the file was without a writer all the time.
func (r *record) counts(quiet bool, scan uint64) {
	if quiet {
		r.busy, r.due = 0, 0
		return
	}
	r.busy++
	r.due = scan + uint64(min(1<<min(r.busy, 8), maxWait))
}

// fallBack gives the files the content that the last committed patch has. Where none
// has the first one, or where the scan is thorough, what was read remains, though it is
// not of one moment. cause is an error that made reading impossible.
func (j *job) fallBack(cause error) error {
	w := j.w
	if cause != nil {
		w.skip(j.files[0].path, cause)
	}
	w.tear()
	kept := j.files[0].rec.earlier(born(j.files[0].fd)) != nil
	if cause == nil && j.db == nil && w.mode != Regular {
		kept = false
	}
	if kept {
		w.stale(j.files[0].path)
	}
	w.s.Log.Debug("a file cannot be read in one state", "path", j.files[0].path, "earlier", kept, "err", cause)
	for _, f := range j.files {
		r := f.rec
		switch earlier := r.earlier(born(f.fd)); {
		case kept && earlier != nil && f.out != nil:
			r.now = f.out.withContentOf(earlier)
		case kept && f.out != nil:
			r.now = f.out.empty() // a log or journal that the database of then did not have
		case kept || cause != nil:
			r.now = earlier
		default:
			r.now = f.out
		}
		r.asked, r.torn = w.s.seq, w.s.seq
		if f.out != nil {
			r.counts(false, w.s.seq)
		}
	}
	return nil
}
