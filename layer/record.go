package layer

import (
	"golang.org/x/sys/unix"

	"valise/tree"
)

// stamp tells whether a file may have changed: two stats of one file with the same
// stamp saw the same file, unless a change followed the first within granularity, or
// the file had a writer.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime int64
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{ino: st.Ino, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

// version is what was found out about a file at one time. It never changes.
type version struct {
	stamp
	attr    tree.Attr
	marks   marks
	xattrs  []tree.Xattr
	symlink []byte
	extents []tree.Extent
	born    int64 // when a file that was read was made; 0: unknown
	settled bool  // it holds as long as the file has the same stamp
}

func newVersion(st *unix.Stat_t) *version {
	return &version{stamp: stampOf(st), attr: tree.Attr{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}}
}

// withContentOf returns v's attributes with the content of an earlier version.
func (v *version) withContentOf(old *version) *version {
	out := *v
	out.stamp, out.extents, out.settled = old.stamp, old.extents, false
	out.attr.Size, out.attr.Mtime, out.attr.Ctime = old.attr.Size, old.attr.Mtime, old.attr.Ctime
	return &out
}

// empty returns v without content.
func (v *version) empty() *version {
	out := *v
	out.extents, out.attr.Size, out.settled = nil, 0, false
	return &out
}

// record is what the Scanner remembers of an inode of upper. While a job reads the file,
// the record is the job's.
type record struct {
	ino   uint64
	seen  uint64   // the last scan that saw it
	row   uint64   // the last scan whose patch has it
	asked uint64   // the last scan that found out now
	met   *walk    // the walk that has a row for it
	item  int      // that row's, of the first name
	job   *walk    // the walk that has it read
	db    *walk    // the walk that has it read as a database
	torn  uint64   // the last scan that could not read it in one state
	now   *version // as the current scan has it; nil: not to be saved
	saved *version // as the last committed patch has it

	busy  int    // scans in a row that found a writer
	due   uint64 // the scan that reads it again, if it is large and busy
	stuck bool   // as a database, it stayed locked for all of lockTime
}

// earlier returns what the last committed patch has of the file, if it was made at born:
// another file may have the same inode by now.
func (r *record) earlier(born int64) *version {
	if r.saved == nil || born == 0 || r.saved.born != born {
		return nil
	}
	return r.saved
}

// born returns when an open file was made, or 0 where the file system does not tell.
func born(fd int) int64 {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}

// current returns what is known of the file that has the stamp, if that still holds.
func (r *record) current(at stamp, scan uint64) *version {
	if r.asked == scan && r.now != nil && (r.now.stamp == at || r.torn == scan) {
		return r.now
	}
	if r.saved != nil && r.saved.settled && r.saved.stamp == at {
		return r.saved
	}
	return nil
}
