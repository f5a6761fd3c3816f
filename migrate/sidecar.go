package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"valise/durable"
)

// Sidecar is the directory with what Fetch knows of the staging directory dir.
func Sidecar(dir string) string {
	dir = filepath.Clean(dir)
	return filepath.Join(filepath.Dir(dir), ".valise-migrate-"+filepath.Base(dir))
}

// Forget removes the Sidecar. The staging directory stays, but no Fetch goes on with it.
func Forget(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(Sidecar(dir))
}

// sidecar is an open one, which is locked.
type sidecar struct {
	path string
	lock *os.File
}

// begun says what a staging directory is for.
type begun struct {
	Name string `json:"source"`
	// Dir is its inode number: whatever has its path later is not swept.
	Dir uint64 `json:"inode"`
	UID int    `json:"uid"`
	GID int    `json:"gid"`
}

func (s *sidecar) planPath() string    { return filepath.Join(s.path, "listing") }
func (s *sidecar) journalPath() string { return filepath.Join(s.path, "journal") }
func (s *sidecar) begunPath() string   { return filepath.Join(s.path, "migration.json") }

// openSidecar opens that of the directory root at dir, and makes it if root is empty.
func openSidecar(dir string, root *os.File, cfg Config) (_ *sidecar, err error) {
	s := &sidecar{path: Sidecar(dir)}
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return nil, err
	}
	want := begun{cfg.Name, st.Ino, cfg.UID, cfg.GID}
	var have begun
	data, err := os.ReadFile(s.begunPath())
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh:
		if err := isEmpty(root); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if err := os.Mkdir(s.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &have); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.begunPath(), err)
		}
		if have != want {
			return nil, fmt.Errorf("%s: %w (%s for %d:%d): name a new one, or remove it and %s", dir, ErrOther, have.Name, have.UID, have.GID, s.path)
		}
	}
	if s.lock, err = os.OpenFile(filepath.Join(s.path, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	err = unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		err = fmt.Errorf("%s: %w", dir, ErrLocked)
	}
	if err == nil && fresh {
		err = errors.Join(os.RemoveAll(s.journalPath()), durable.WriteJSON(s.begunPath(), want))
	}
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

func (s *sidecar) close() error { return s.lock.Close() }

func isEmpty(dir *os.File) error {
	_, err := dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		_, err = dir.Seek(0, io.SeekStart)
		return err
	}
	if err == nil {
		err = ErrNotEmpty
	}
	return err
}
