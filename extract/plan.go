package extract

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"valise/tree"
)

// plan is what lies at a path of a tree.
type plan struct {
	tree  *tree.Tree
	top   tree.Node   // the directory whose place the destination takes
	whole bool        // top itself is extracted; else one file in it
	nodes []tree.Node // what is in top, by path, parents first

	first        map[tree.Node]tree.Node // file with several names → the first one in nodes
	files, bytes int64                   // as Result counts them
}

// newPlan finds what lies at name, which is cleaned as an absolute path is.
func newPlan(t *tree.Tree, name string) (*plan, error) {
	if t.Kind() != tree.Whole {
		return nil, errors.New("extract a patch: it has to be applied first")
	}
	start, ok := t.LookupPath([]byte(path.Clean("/" + name)))
	if !ok {
		return nil, fmt.Errorf("find %q in the snapshot: %w", name, fs.ErrNotExist)
	}
	p := &plan{tree: t, top: start, whole: t.Attr(start).IsDir(), first: map[tree.Node]tree.Node{}}
	if p.whole {
		p.walk()
	} else {
		p.top = t.Parent(start)
		p.add(start)
	}
	return p, nil
}

// walk adds what is in top. Its stack is not the goroutine's: a tree may be very deep.
func (p *plan) walk() {
	type run struct{ next, end tree.Node }
	enter := func(dir tree.Node) run {
		first, count := p.tree.Children(dir)
		return run{first, first + tree.Node(count)}
	}
	stack := []run{enter(p.top)}
	for len(stack) > 0 {
		r := &stack[len(stack)-1]
		if r.next == r.end {
			stack = stack[:len(stack)-1]
			continue
		}
		n := r.next
		r.next++
		p.add(n)
		if p.tree.Attr(n).IsDir() {
			stack = append(stack, enter(n))
		}
	}
}

func (p *plan) add(n tree.Node) {
	p.nodes = append(p.nodes, n)
	a := p.tree.Attr(n)
	if a.IsDir() {
		return
	}
	if a.Nlink > 1 {
		file := p.tree.File(n)
		if _, known := p.first[file]; known {
			return
		}
		p.first[file] = n
	}
	p.files++
	if a.IsRegular() {
		p.bytes += a.Size
	}
}

// linked returns the name that n is a further name of; false if n is the first.
func (p *plan) linked(n tree.Node) (tree.Node, bool) {
	to, ok := p.first[p.tree.File(n)]
	return to, ok && to != n
}

// path joins the names from top to n; it is empty for top.
func (p *plan) path(n tree.Node) string {
	size := 0
	for at := n; at != p.top; at = p.tree.Parent(at) {
		size += len(p.tree.Name(at)) + 1
	}
	if size == 0 {
		return ""
	}
	out := make([]byte, size)
	for at := n; at != p.top; at = p.tree.Parent(at) {
		name := p.tree.Name(at)
		size -= len(name) + 1
		copy(out[size+1:], name)
		out[size] = '/'
	}
	return string(out[1:])
}
