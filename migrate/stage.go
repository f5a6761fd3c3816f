package migrate

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// stage is the staging directory. It may be used by many at once.
type stage struct {
	root     int
	uid, gid int
}

// handle keeps the directory open that was used last: neighbours share it. It has one
// owner.
type handle struct {
	*stage
	dir string
	fd  int // of dir; root if that is the top
}

func (s *stage) handle() *handle { return &handle{stage: s, fd: s.root} }

func (h *handle) close() {
	if h.fd != h.root {
		_ = unix.Close(h.fd)
	}
	h.dir, h.fd = "", h.root
}

// parent returns the descriptor of the directory of rel, good until the next call, and
// the name of rel in it. Missing directories are made.
func (h *handle) parent(rel string) (fd int, name string, err error) {
	dir, name := path.Split(rel)
	if fd, err = h.open(strings.TrimSuffix(dir, "/")); err != nil {
		return -1, "", fmt.Errorf("open directory %q: %w", dir, err)
	}
	return fd, name, nil
}

func (h *handle) open(dir string) (int, error) {
	if dir == h.dir {
		return h.fd, nil
	}
	h.close()
	if dir == "" {
		return h.root, nil
	}
	fd, err := openBeneath(h.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		fd, err = h.makeDirs(dir)
	}
	if err != nil {
		return -1, err
	}
	h.dir, h.fd = dir, fd
	return fd, nil
}

// makeDirs makes the directory and those above it and opens it. The top is closed to
// others until all is done, so they may have their modes at once.
func (h *handle) makeDirs(dir string) (int, error) {
	at := h.root
	for name := range strings.SplitSeq(dir, "/") {
		made := true
		err := retry(func() error { return unix.Mkdirat(at, name, 0o700) })
		if err == unix.EEXIST {
			made, err = false, nil
		}
		next := -1
		if err == nil {
			next, err = openBeneath(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
		}
		if at != h.root {
			_ = unix.Close(at)
		}
		if err == nil && made {
			err = errors.Join(h.own(next), retry(func() error { return unix.Fchmod(next, defaultDir) }))
		}
		if err != nil {
			if next >= 0 {
				_ = unix.Close(next)
			}
			return -1, err
		}
		at = next
	}
	return at, nil
}

// own gives the file of fd, which may be a mere place, to the home's owner.
func (s *stage) own(fd int) error {
	err := retry(func() error { return unix.Fchownat(fd, "", s.uid, s.gid, unix.AT_EMPTY_PATH) })
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("give it to %d:%d: %w (run it as root)", s.uid, s.gid, err)
	}
	return err
}

// set gives the file of fd its owner and its attributes; link says that it is one, and
// fd its place. What the file system refuses becomes a note, but the owner. The order
// matters: a change of owner clears set-id bits, and all change times.
func (s *stage) set(fd int, a attributes, link bool) (notes []string, err error) {
	if err := s.own(fd); err != nil {
		return nil, err
	}
	refused := func(action string, err error) {
		if err != nil {
			notes = append(notes, fmt.Sprintf("leave out %s (%v)", action, err))
		}
	}
	if !link {
		for _, name := range slices.Sorted(maps.Keys(a.Xattrs)) {
			refused("the attribute "+name, retry(func() error { return unix.Fsetxattr(fd, name, a.Xattrs[name], 0) }))
		}
		refused("the mode", retry(func() error { return unix.Fchmod(fd, a.Mode) }))
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(a.Mtime)}
	refused("the time", retry(func() error { return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH) }))
	return notes, nil
}

// setDir is set for the directory at rel.
func (s *stage) setDir(rel string, a attributes) ([]string, error) {
	fd, err := openBeneath(s.root, rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", rel, err)
	}
	defer unix.Close(fd)
	notes, err := s.set(fd, a, false)
	if err != nil {
		err = fmt.Errorf("directory %q: %w", rel, err)
	}
	return notes, err
}

// create makes a file at rel: fill gets it, open and without a name that lasts, and it
// gets its attributes and then its name, unless fill fails.
func (h *handle) create(rel string, k kind, target string, a attributes, fill func(fd int) error) (notes []string, err error) {
	dir, name, err := h.parent(rel)
	if err != nil {
		return nil, err
	}
	temporary := temporaryName()
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(dir, temporary, 0))
		}
	}()
	fd := -1
	switch k {
	case regular:
		fd, err = openNew(dir, temporary)
	case symlink:
		if err = retry(func() error { return unix.Symlinkat(target, dir, temporary) }); err == nil {
			fd, err = openBeneath(dir, temporary, unix.O_PATH)
		}
	case fifo:
		if err = retry(func() error { return unix.Mknodat(dir, temporary, unix.S_IFIFO|0o600, 0) }); err == nil {
			fd, err = openBeneath(dir, temporary, unix.O_RDWR|unix.O_NONBLOCK) // waits for no other end
		}
	}
	if err != nil {
		return nil, err
	}
	if k == regular {
		err = fill(fd)
	}
	if err == nil {
		notes, err = h.set(fd, a, k == symlink)
	}
	if closeErr := unix.Close(fd); closeErr != nil && closeErr != unix.EINTR {
		err = errors.Join(err, closeErr) // of a delayed write
	}
	if err == nil {
		err = retry(func() error { return unix.Renameat(dir, temporary, dir, name) })
	}
	return notes, err
}

// holds reports whether what r says is in the directory.
func (s *stage) holds(r record) bool {
	if r.Path == "" {
		return r.Kind == directory
	}
	fd, err := openBeneath(s.root, r.Path, unix.O_PATH)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil || kind(st.Mode&unix.S_IFMT) != r.Kind {
		return false
	}
	return st.Size == r.Size || r.Kind == directory || r.Kind == fifo
}

// openNew makes a file that its maker alone may open, and opens it.
func openNew(dir int, name string) (fd int, err error) {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	err = retry(func() (err error) { fd, err = unix.Openat(dir, name, flags, 0o600); return err })
	return fd, err
}

// openBeneath opens what is at path below the directory at, without following a link.
func openBeneath(at int, path string, flags int) (fd int, err error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	err = retry(func() (err error) { fd, err = unix.Openat2(at, path, how); return err })
	return fd, err
}

// retry calls f until no signal interrupts it and no rename raced with it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR && err != unix.EAGAIN {
			return err
		}
	}
}

// write writes all of p at offset.
func write(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n := 0
		err := retry(func() (err error) { n, err = unix.Pwrite(fd, p, offset); return err })
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// remove removes a name that may be gone already.
func remove(dir int, name string, flags int) error {
	err := retry(func() error { return unix.Unlinkat(dir, name, flags) })
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// temporaryName is one that nobody else has.
func temporaryName() string { return fmt.Sprintf(".valise-%016x", rand.Uint64()) }
