package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"valise/durable"
	"valise/volume"
)

// recordVersion is the form of a record's file. Every version ever written stays
// readable.
const recordVersion = 1

// record is what the driver knows of one volume, and the content of its file.
type record struct {
	Version   int               `json:"version"`
	Name      volume.Name       `json:"name"`
	Options   map[string]string `json:"options"`
	CreatedAt time.Time         `json:"created_at"`
	Mounts    []reference       `json:"mounts,omitempty"`
}

// reference is one mount that Docker asked for and did not take back.
type reference struct {
	ID        string    `json:"id"`   // Docker's
	Boot      string    `json:"boot"` // kernel's boot id: a reboot ends every mount
	MountedAt time.Time `json:"mounted_at"`
	Backing   backing   `json:"backing"`
	Source    source    `json:"source"`
}

// backing is what is mounted: a directory (or file) as the operator sees it, or a profile
// on S3.
type backing struct {
	Path     string `json:"path"` // of a profile on S3 its URL
	Remote   bool   `json:"remote,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// source is the same as the kernel's mount tables name it.
type source struct {
	Device string `json:"device"` // major:minor
	Root   string `json:"root"`   // path in that file system
}

func (r *record) sameOptions(options map[string]string) error {
	if maps.Equal(r.Options, options) {
		return nil
	}
	return fmt.Errorf("volume %q exists with other options; remove it first or choose another name", r.Name)
}

// recordStore keeps each record in a file of its own.
type recordStore struct{ dir string }

const recordSuffix = ".json"

func (s recordStore) path(name volume.Name) string {
	return filepath.Join(s.dir, string(name)+recordSuffix)
}

func (s recordStore) save(r *record) error {
	if err := durable.WriteJSON(s.path(r.Name), r); err != nil {
		return fmt.Errorf("save the record of volume %q: %w", r.Name, err)
	}
	return nil
}

func (s recordStore) remove(name volume.Name) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of volume %q: %w", name, err)
	}
	return durable.SyncDir(s.dir)
}

// load reads every record. One that can't be read is renamed aside, so that nothing
// is lost, and reported; the others are not held up by it.
func (s recordStore) load() (records []*record, faults []error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, []error{err}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) { // of a write that a crash cut off
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				faults = append(faults, err)
			}
			continue
		}
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		r, err := s.read(name)
		if err != nil {
			path := filepath.Join(s.dir, e.Name())
			faults = append(faults, fmt.Errorf("record %q is set aside as %q: %w", path, path+".unreadable", err))
			if err := os.Rename(path, path+".unreadable"); err != nil {
				faults = append(faults, err)
			}
			continue
		}
		records = append(records, r)
	}
	return records, faults
}

func (s recordStore) read(name string) (*record, error) {
	n, err := volume.ParseName(name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.path(n))
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("it has version %d, this valise reads %d", r.Version, recordVersion)
	}
	if r.Name != n {
		return nil, fmt.Errorf("it is of volume %q", r.Name)
	}
	return r, nil
}
