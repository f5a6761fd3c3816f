package tree

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// damaged is the bytes of a tree, to be changed.
type damaged struct {
	*testing.T
	tree *Tree
	data []byte
}

func damage(t *testing.T, of *Tree) *damaged {
	return &damaged{t, of, bytes.Clone(of.Bytes())}
}

// at is the i-th entry of a section.
func (d *damaged) at(section, i int) []byte {
	offset := int(le.Uint64(d.data[tableAt+16*section:]))
	return d.data[offset+i*entrySize[section]:]
}

// row changes the row at path; of a further name it is that row itself.
func (d *damaged) row(path string, change func(r *row)) {
	d.Helper()
	n, ok := d.tree.LookupPath([]byte(path))
	if !ok {
		d.Fatalf("%q is not there", path)
	}
	var r row
	p := d.at(secRows, int(n))
	r.decode(p)
	change(&r)
	r.append(p[:0])
}

// cut makes a section shorter by n bytes.
func (d *damaged) cut(section, n int) {
	p := d.data[tableAt+16*section+8:]
	le.PutUint64(p, le.Uint64(p)-uint64(n))
}

func (d *damaged) put32(section, i, offset int, v uint32) {
	le.PutUint32(d.at(section, i)[offset:], v)
}

func (d *damaged) number(path string) uint32 {
	n, _ := d.tree.LookupPath([]byte(path))
	return uint32(n)
}

// TestVerify breaks the rules one by one. Rows and sections are those of everything.
func TestVerify(t *testing.T) {
	const (
		far      = 1 << 31
		several  = "docs/again" // the row with the attributes may be another
		sparse   = "docs/sparse"
		symlink  = "docs/deep/link"
		fifo     = "\xfe\x01 name\n"
		noRoot   = "it is no root"
		lost     = "it is in no directory"
		notNext  = "its children are not next"
		noOrder  = "is not in order"
		noName   = "is no file name"
		notGone  = "it is gone and yet there"
		noFile   = "it is a further name of no file"
		noFlags  = "flags"
		noExtent = "its extents"
		noXattrs = "its extended attributes lie wrong"
		noPack   = "lies wrong in its pack"
	)
	set := func(path string, change func(r *row)) func(d *damaged) {
		return func(d *damaged) { d.Helper(); d.row(path, change) }
	}
	list := func(offset int, b byte) func(d *damaged) {
		return func(d *damaged) { d.at(secXattrs, 0)[offset] = b }
	}
	for _, c := range []struct {
		name   string
		damage func(d *damaged)
		want   string
	}{
		{"no rows", func(d *damaged) { d.cut(secRows, d.tree.Len()*rowSize) }, "there is no root"},
		{"the last row, a file's, is cut off", func(d *damaged) { d.cut(secRows, rowSize) }, noFile},

		{"root is a file", set("", func(r *row) { r.mode = modeFile }), noRoot},
		{"root has a name", set("", func(r *row) { r.nameLen = 1 }), noRoot},
		{"root has a name far away", set("", func(r *row) { r.name = far }), noRoot},
		{"root has a parent", set("", func(r *row) { r.parent = 1 }), noRoot},
		{"root is moved", set("", func(r *row) { r.flags, r.d = uint16(Moved), 1 }), noRoot},
		{"root is gone", set("", func(r *row) { r.flags = uint16(Gone) }), noRoot},
		{"root is a link", set("", func(r *row) { r.flags = uint16(flagLink) }), noRoot},

		{"root has no children", set("", func(r *row) { r.a, r.b, r.nlink = 1, 0, 2 }), lost},
		{"root has a child less", set("", func(r *row) { r.b-- }), notNext},
		{"root has a child more", set("", func(r *row) { r.b++ }), noOrder},
		{"root has all rows", set("", func(r *row) { r.b = far }), notNext},
		{"root is its own child", set("", func(r *row) { r.a = 0 }), notNext},
		{"the children are another's", set("docs/deep", func(r *row) { r.a-- }), notNext},
		{"an empty directory points elsewhere", set("empty", func(r *row) { r.a = 0 }), notNext},
		{"a directory in itself", func(d *damaged) {
			d.row("", func(r *row) { r.b, r.nlink = 0, 2 })
			var r row
			r.decode(d.at(secRows, 1))
			r = row{mode: modeDir, nlink: 3, name: r.name, nameLen: r.nameLen, parent: 1, a: 1, b: 1}
			r.append(d.at(secRows, 1)[:0])
			d.cut(secRows, (d.tree.Len()-2)*rowSize)
		}, lost},
		{"another's child", set(sparse, func(r *row) { r.parent = 0 }), noOrder},
		{"a wrong number of directories in it", set("docs", func(r *row) { r.nlink++ }), "links"},
		{"names in disorder", func(d *damaged) {
			var r row
			d.row(sparse, func(s *row) { r = *s })
			d.row("docs/hole", func(h *row) { h.name, h.nameLen, r.name, r.nameLen = r.name, r.nameLen, h.name, h.nameLen })
			d.row(sparse, func(s *row) { *s = r })
		}, noOrder},
		{"one name twice", func(d *damaged) {
			var r row
			d.row(sparse, func(s *row) { r = *s })
			d.row("docs/hole", func(h *row) { h.name, h.nameLen = r.name, r.nameLen })
		}, noOrder},
		{"a name lies outside", set(sparse, func(r *row) { r.name = far }), "name lies outside"},
		{"a name ends outside", set(sparse, func(r *row) { r.nameLen = 1 << 15 }), "name lies outside"},
		{"an empty name", set(sparse, func(r *row) { r.nameLen = 0 }), noName},
		{"a name too long", set(sparse, func(r *row) { r.name, r.nameLen = 0, 256 }), noName},
		{"a name with a slash", func(d *damaged) { d.row(sparse, func(r *row) { d.at(secStrings, 0)[r.name] = '/' }) }, noName},

		{"a flag that is unknown", set("empty", func(r *row) { r.flags = 1 << 5 }), noFlags},
		{"a flag of all bits", set("empty", func(r *row) { r.flags = 1<<16 - 1 }), noFlags},
		{"gone with a mode", set("gone", func(r *row) { r.mode = modeFile }), notGone},
		{"gone with extended attributes", set("gone", func(r *row) { r.xattr = far }), notGone},
		{"gone with content", set("gone", func(r *row) { r.a = 1 }), notGone},
		{"gone and opaque", set("gone", func(r *row) { r.flags |= uint16(Opaque) }), noFile},
		{"gone and a link", set("gone", func(r *row) { r.flags |= uint16(flagLink) }), noFile},
		{"a link out of the tree", set(several, func(r *row) { r.a = far }), noFile},
		{"a link with a mode", set(several, func(r *row) { r.mode = modeFile }), noFile},
		{"a link with extended attributes", set(several, func(r *row) { r.xattr = far }), noFile},
		{"a link to itself", func(d *damaged) { d.row(several, func(r *row) { r.a = d.number(several) }) }, "can have none"},
		{"a link to a link", func(d *damaged) { d.row(several, func(r *row) { r.a = d.number("again") }) }, "can have none"},
		{"a link to a directory", func(d *damaged) { d.row(several, func(r *row) { r.a = d.number("docs") }) }, "can have none"},
		{"a link to the root", set(several, func(r *row) { r.a = 0 }), "can have none"},
		{"a link to what is gone", func(d *damaged) { d.row(several, func(r *row) { r.a = d.number("gone") }) }, "can have none"},
		{"a link to another file", func(d *damaged) { d.row(several, func(r *row) { r.a = d.number("docs/hole") }) }, "names, want"},
		{"too few names", set(sparse, func(r *row) { r.nlink = 0 }), "names, want"},
		{"too many names", set(sparse, func(r *row) { r.nlink = 2 }), "names, want"},

		{"a mode of more than 16 bits", set(sparse, func(r *row) { r.mode |= 1 << 16 }), "mode"},
		{"a negative size", set(sparse, func(r *row) { r.size = -1 }), "size"},
		{"a type that is not saved", set(sparse, func(r *row) { r.mode = 0o140644 }), "unknown type"},
		{"no type", set(sparse, func(r *row) { r.mode = 0o644 }), "unknown type"},

		{"a directory's attributes alone", set("empty", func(r *row) { r.flags = uint16(Meta) }), noFlags},
		{"opaque and moved", set("opaque/moved", func(r *row) { r.flags |= uint16(Opaque) }), noFlags},
		{"an opaque file", set("meta", func(r *row) { r.flags |= uint16(Opaque) }), noFlags},
		{"moved with its content", set("opaque/content", func(r *row) { r.flags = uint16(Moved) }), noFlags},
		{"an opaque symbolic link", set(symlink, func(r *row) { r.flags = uint16(Opaque) }), noFlags},
		{"the attributes of a FIFO", set(fifo, func(r *row) { r.flags = uint16(Meta) }), noFlags},
		{"moved from nowhere", set("opaque/moved", func(r *row) { r.d = 0 }), "origin"},
		{"moved from far away", set("opaque/moved", func(r *row) { r.c = far }), "origin"},
		{"moved from a path too long", set("opaque/content", func(r *row) { r.d = 1<<32 - 1 }), "origin"},

		{"a target far away", set(symlink, func(r *row) { r.a = far }), "target"},
		{"a target that is empty", set(symlink, func(r *row) { r.b = 0 }), "target"},
		{"a target too long", set(symlink, func(r *row) { r.a, r.b = 0, 4096 }), "target"},
		{"a target with a zero", func(d *damaged) { d.row(symlink, func(r *row) { d.at(secStrings, 0)[r.a] = 0 }) }, "target"},

		{"extents far away", set(sparse, func(r *row) { r.a = far }), noExtent},
		{"too many extents", set(sparse, func(r *row) { r.b = far }), noExtent},
		{"extents of two files", func(d *damaged) {
			var r row
			d.row(sparse, func(s *row) { r = *s })
			d.row("docs/hole", func(h *row) { h.a, h.b, h.size = r.a, r.b, r.size })
		}, "another file's"},
		{"extents beyond the end", set(sparse, func(r *row) { r.size = 5999 }), noExtent},
		{"extents in disorder", func(d *damaged) { le.PutUint64(d.at(secExtents, 0), 1<<30) }, noExtent},
		{"extents that overlap", func(d *damaged) { le.PutUint64(d.at(secExtents, 1), 999) }, noExtent},
		{"an extent before the start", func(d *damaged) { le.PutUint64(d.at(secExtents, 0), 1<<63) }, noExtent},
		{"an extent whose end overflows", func(d *damaged) {
			d.row(sparse, func(r *row) { r.size = 1<<63 - 1 })
			le.PutUint64(d.at(secExtents, 2), 1<<63-2)
		}, noExtent},
		{"an extent of no block", func(d *damaged) { d.put32(secExtents, 0, 8, 3) }, "no block"},

		{"attributes far away", set(sparse, func(r *row) { r.xattr = far }), noXattrs},
		{"attributes from the middle of a list", set(sparse, func(r *row) { r.xattr++ }), noXattrs},
		{"attributes are cut short", func(d *damaged) { d.cut(secXattrs, 1) }, "cut short"},
		{"attributes are cut in the number", func(d *damaged) { d.cut(secXattrs, len(d.tree.section[secXattrs])-1) }, "cut short"},
		{"attributes are cut in a length", func(d *damaged) { d.cut(secXattrs, len(d.tree.section[secXattrs])-6) }, "cut short"},
		{"more attributes than there are", list(1, 0xff), "cut short"},
		{"an attribute without a name", list(2, 0), "no name or not in order"},
		{"an attribute of 4 GiB", list(6, 0xff), "cut short"},
		{"attributes in disorder", list(7, 'z'), "no name or not in order"},
		{"an attribute's name with a zero", list(8, 0), "no name or not in order"},

		{"packs in disorder", func(d *damaged) { d.at(secPacks, 0)[0] = 9 }, "packs are not sorted"},
		{"a pack twice", func(d *damaged) { d.at(secPacks, 0)[0] = 2 }, "packs are not sorted"},
		{"blocks in disorder", func(d *damaged) { d.at(secBlobs, 0)[0] = 9 }, "blocks are not sorted"},
		{"a block twice", func(d *damaged) { d.at(secBlobs, 0)[0] = 2 }, "blocks are not sorted"},
		{"a block in no pack", func(d *damaged) { d.put32(secBlobs, 0, 32, 2) }, "lies in no pack"},
		{"a block outside its pack", func(d *damaged) { d.put32(secBlobs, 0, 36, testPackSize) }, noPack},
		{"a block that ends outside its pack", func(d *damaged) { d.put32(secBlobs, 0, 36, testPackSize-99) }, noPack},
		{"a block whose end overflows", func(d *damaged) { d.put32(secBlobs, 0, 36, 1<<32-1) }, noPack},
		{"a block without bytes", func(d *damaged) { d.put32(secBlobs, 0, 44, 0) }, noPack},
		{"a block stored in nothing", func(d *damaged) { d.put32(secBlobs, 0, 40, 0) }, noPack},
		{"a block stored in more", func(d *damaged) { d.put32(secBlobs, 0, 40, 1029) }, noPack},
		{"a block of more than 1 MiB", func(d *damaged) { d.put32(secBlobs, 0, 44, 1<<20+1) }, noPack},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := damage(t, everything(t, Patch))
			c.damage(d)
			_, err := parse(d.data)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrCorrupt because %q", err, c.want)
			}
		})
	}
	t.Run("a patch is called whole", func(t *testing.T) {
		d := damage(t, everything(t, Patch))
		le.PutUint32(d.data[8:], uint32(Whole))
		if _, err := parse(d.data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("the helper changes nothing by itself", func(t *testing.T) {
		d := damage(t, everything(t, Patch))
		d.row(sparse, func(*row) {})
		if _, err := parse(d.data); err != nil || !bytes.Equal(d.data, d.tree.Bytes()) {
			t.Errorf("got %v", err)
		}
	})
}
