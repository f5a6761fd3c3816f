package fusefs

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"valise/tree"
)

const (
	// forever is how long the kernel may keep what it was told of the tree.
	forever = 24 * time.Hour
	// blockSize is what files occupy space in, as on a local file system.
	blockSize = 4096
	// maxName is the length of the longest name.
	maxName = 255
)

// view answers the kernel's requests from a tree. Requests that a read-only mount is
// never asked are left to the embedded default, which refuses them.
type view struct {
	fuse.RawFileSystem
	tree       *tree.Tree
	content    Content
	generation uint64
	patience   time.Duration // 0: none
	log        *slog.Logger

	sparse func() bool // the tree has files with holes; it is found out when it matters

	acls  bool   // the tree has POSIX ACLs
	space uint64 // of all content, in units of blockSize

	requests counters
	touched  touched
	failures failures
}

func newView(cfg Config) (*view, error) {
	if cfg.Tree.Kind() != tree.Whole {
		return nil, errors.New("the tree is a patch")
	}
	v := &view{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		tree:          cfg.Tree, content: cfg.Content, generation: cfg.Generation,
		patience: bound(cfg.Patience, requestLimit()),
		log:      cfg.Log,
		acls:     hasACLs(cfg.Tree),
		touched:  newTouched(cfg.Tree.Len()),
	}
	v.sparse = sync.OnceValue(func() bool { return hasHoles(v.tree) })
	if v.log == nil {
		v.log = slog.Default()
	}
	var bytes uint64
	for i := range cfg.Tree.Blobs() {
		bytes += uint64(cfg.Tree.Blob(i).Raw)
	}
	v.space = (bytes + blockSize - 1) / blockSize
	return v, nil
}

// hasACLs reports whether any file of t has a POSIX ACL.
func hasACLs(t *tree.Tree) bool {
	if !t.HasXattrs() {
		return false
	}
	for n := range t.Len() {
		for name := range t.Xattrs(tree.Node(n)) {
			if strings.HasPrefix(string(name), "system.posix_acl_") {
				return true
			}
		}
	}
	return false
}

func (v *view) String() string { return "valise" }

// node is the row that the kernel calls id.
func (v *view) node(id uint64) (tree.Node, bool) {
	if id == 0 || id > uint64(v.tree.Len()) {
		return 0, false
	}
	return tree.Node(id - 1), true
}

// id is what the kernel calls row n, the same for all names of a file.
func (v *view) id(n tree.Node) uint64 { return uint64(v.tree.File(n)) + 1 }

// Forget has nothing to do: no node has any state.
func (v *view) Forget(uint64, uint64) { v.requests.add(opForget) }

func (v *view) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	v.requests.add(opStatFs)
	*out = fuse.StatfsOut{
		Bsize: blockSize, Frsize: blockSize, Blocks: v.space,
		Files: uint64(v.tree.Len()), NameLen: maxName,
	}
	return fuse.OK
}

// The requests below are answered with ENOSYS, after which the kernel does without:
// files and directories open unasked and keep their pages (FUSE_NO_OPEN_SUPPORT,
// FUSE_NO_OPENDIR_SUPPORT), closing one needs no word, and there is nothing to sync.

func (v *view) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return v.unneeded(opOpen)
}

func (v *view) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return v.unneeded(opOpenDir)
}

func (v *view) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return v.unneeded(opFlush) }

func (v *view) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return v.unneeded(opFsync) }

func (v *view) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return v.unneeded(opFsyncDir) }

func (v *view) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return v.unneeded(opAccess) }

// Statx is asked for a birth time, which the tree has none of.
func (v *view) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	return v.unneeded(opStatx)
}

func (v *view) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return v.unneeded(opIoctl)
}

func (v *view) unneeded(o op) fuse.Status {
	v.requests.add(o)
	return fuse.ENOSYS
}
