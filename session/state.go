package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"valise/durable"
	"valise/quota"
	"valise/store"
	"valise/tree"
)

// stateVersion is the form of state.json. Every version ever written stays readable.
const stateVersion = 1

// state is what must be known of a mount after a crash.
type state struct {
	Version  int            `json:"version"`
	URL      string         `json:"url"`
	Dir      string         `json:"dir"`
	Profile  string         `json:"profile"`  // the repository's id
	Mount    string         `json:"mount"`    // the id of this mount, and of its upper
	Base     store.Snapshot `json:"base"`     // what the upper lies on; epoch 0 is the empty home
	Saved    store.Snapshot `json:"saved"`    // the newest that has changes of the upper, or the base
	Complete bool           `json:"complete"` // nothing of the upper is unsaved: it may be deleted
}

// home is a profile's directory below the state directory.
type home struct {
	path    string
	lock    *os.File
	enforce bool // uppers that are new get a project, by which they are limited
}

// ErrLocked says that another process works on the profile's state.
var ErrLocked = errors.New("another process has the profile mounted on this host")

// HomePath is where the state of the profile at url lies.
func HomePath(stateDir, url string) string {
	sum := sha256.Sum256([]byte(url))
	readable := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, strings.TrimSuffix(url[strings.Index(url, "://")+1:], "/"))
	readable = strings.Trim(readable, "_")
	return filepath.Join(stateDir, "s3", readable[max(0, len(readable)-80):]+"-"+hex.EncodeToString(sum[:6]))
}

// openHome makes the directory and takes its lock, or goes on with the lock that a
// process held which died.
func openHome(path string, held *os.File) (*home, error) {
	if held != nil {
		fd, err := unix.FcntlInt(held.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return &home{path: path, lock: os.NewFile(uintptr(fd), held.Name())}, nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (its state is in %s)", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &home{path: path, lock: f}, nil
}

// Locked reports whether a process works on the profile at url.
func Locked(stateDir, url string) (bool, error) {
	f, err := os.Open(filepath.Join(HomePath(stateDir, url), "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func (h *home) close() error { return h.lock.Close() }

// claimant is the name under which this host takes the lease without a mount.
func (h *home) claimant() (string, error) {
	data, err := os.ReadFile(h.file("claimant"))
	if err == nil && len(data) > 0 {
		return string(data), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := store.NewID()
	return id, durable.Write(h.file("claimant"), []byte(id))
}

func (h *home) file(name string) string { return filepath.Join(h.path, name) }

func (h *home) layer(mount, part string) string { return filepath.Join(h.path, "layers", mount, part) }

// load returns the state, or false if there is none.
func (h *home) load() (state, bool, error) { return loadState(h.path) }

func loadState(dir string) (s state, found bool, err error) {
	path := filepath.Join(dir, "state.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, false, fmt.Errorf("%s: %w", path, err)
	}
	if s.Version != stateVersion {
		return s, false, fmt.Errorf("%s: version %d, this program reads version %d", path, s.Version, stateVersion)
	}
	return s, true, nil
}

func (h *home) save(s state) error {
	s.Version = stateVersion
	return durable.WriteJSON(h.file("state.json"), s)
}

// begin makes the directories of a new mount's upper, owned as the home is. It returns the
// base as it is on the disk.
func (h *home) begin(s state, base *tree.Tree, populate func(string) error) (*tree.Tree, error) {
	mapped, err := h.placeBase(s.Base, base)
	if err != nil {
		return nil, err
	}
	if err = h.save(s); err == nil {
		err = h.makeLayer(s.Mount, mapped, populate)
	}
	if err != nil {
		return nil, errors.Join(err, mapped.Close())
	}
	return mapped, nil
}

// placeBase makes base.tree from a tree that was read, or from a kept one that is mapped.
// It need not be durable: a torn one shows by its checksum, and the store has it.
func (h *home) placeBase(of store.Snapshot, base *tree.Tree) (*tree.Tree, error) {
	err := os.Rename(h.headTree(of), h.file("base.tree"))
	if err == nil {
		return base, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.WriteFile(h.file("base.tree"), base.Bytes(), 0o600); err != nil {
		return nil, err
	}
	return tree.Map(h.file("base.tree"))
}

// makeLayer makes what is missing of the upper's directories. The upper's own
// attributes are those of the home: overlayfs shows them. populate puts files into it.
func (h *home) makeLayer(mount string, base *tree.Tree, populate func(string) error) error {
	upper := h.layer(mount, "upper")
	if _, err := os.Lstat(upper); err == nil {
		return nil
	}
	if err := os.RemoveAll(h.layer(mount, "")); err != nil { // of a process that died
		return err
	}
	if err := os.MkdirAll(h.layer(mount, ""), 0o700); err != nil {
		return err
	}
	if h.enforce {
		if err := quota.Assign(h.layer(mount, "")); err != nil {
			return err
		}
	}
	for _, dir := range []string{h.layer(mount, "work"), h.layer(mount, "new")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if populate != nil {
		if err := populate(h.layer(mount, "new")); err != nil {
			return fmt.Errorf("fill a new home: %w", err)
		}
	}
	if err := copyRoot(base, h.layer(mount, "new")); err != nil {
		return err
	}
	if err := os.Rename(h.layer(mount, "new"), upper); err != nil {
		return err
	}
	return durable.SyncDir(h.layer(mount, ""))
}

// copyRoot gives dir the attributes of the tree's root.
func copyRoot(t *tree.Tree, dir string) error {
	a := t.Attr(tree.Root)
	if err := os.Lchown(dir, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	for name, value := range t.Xattrs(tree.Root) {
		if err := unix.Lsetxattr(dir, string(name), value, 0); err != nil {
			return fmt.Errorf("set %s of %s: %w", name, dir, err)
		}
	}
	if err := unix.Chmod(dir, a.Mode&0o7777); err != nil {
		return err
	}
	times := []unix.Timespec{unix.NsecToTimespec(a.Mtime), unix.NsecToTimespec(a.Mtime)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, times, 0)
}

// drop forgets the upper that s says is saved: it is renamed aside, so that a crash
// can't leave half an upper, for emptyTrash to delete.
func (h *home) drop(s state) error {
	if !s.Complete {
		return fmt.Errorf("drop %s: it is not saved", h.layer(s.Mount, ""))
	}
	for there := true; there; {
		if err := os.MkdirAll(h.file("trash"), 0o700); err != nil {
			return err
		}
		err := os.Rename(h.layer(s.Mount, ""), filepath.Join(h.file("trash"), s.Mount))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The layer may be gone since a crash, or the trash since another's emptyTrash.
		_, err = os.Lstat(h.layer(s.Mount, ""))
		there = err == nil
	}
	for _, name := range []string{"state.json", "base.tree"} {
		if err := os.Remove(h.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(h.path)
}

// emptyTrash deletes what was dropped, now or before a crash. It needs no lock, and may
// take long: an upper has as many files as the user wrote.
func (h *home) emptyTrash() error {
	err := os.RemoveAll(h.file("trash"))
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // another process has dropped something meanwhile, and deletes that
	}
	return err
}
