package store_test

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
	"valise/tree"
)

// files is the content of a home by name.
type files map[string]string

// clock is the time since boot in a synctest bubble.
func clock() time.Duration { return time.Duration(time.Now().UnixNano()) }

// underTest is how new profiles are encrypted.
var underTest store.Encryption

// TestMain runs everything on plain profiles and on encrypted ones.
func TestMain(m *testing.M) {
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() == "" && code == 0 {
		keys, err := store.ParseMasterKeys([]byte("test " + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))))
		if err != nil {
			panic(err)
		}
		underTest = store.Encryption{Mode: store.EncryptClient, Keys: keys}
		fmt.Println("once more, encrypted")
		code = m.Run()
	}
	os.Exit(code)
}

// open opens the profile, and makes it if need be.
func open(t *testing.T, b store.Bucket) *store.Repo {
	t.Helper()
	r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: b, Now: clock, Encryption: underTest})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// mount does with a Repo what a session does, without a file system.
type mount struct {
	repo   *store.Repo
	claim  store.Claim
	lease  *store.Lease
	base   *tree.Tree
	from   store.Snapshot // base's
	saved  store.Snapshot
	writer *store.Writer
	lost   bool
	files  files

	saving func(index []store.Index) // is told before each commit
}

func emptyTree() *tree.Tree {
	t, err := tree.NewBuilder(tree.Whole, tree.Entry{Attr: tree.Attr{Mode: 0o40755}}).Finish(nil)
	if err != nil {
		panic(err)
	}
	return t
}

// begin takes the lease and reads the head.
func begin(ctx context.Context, r *store.Repo, c store.Claim) (*mount, error) {
	m := &mount{repo: r, claim: c, saving: func([]store.Index) {}}
	var err error
	if m.lease, err = r.Acquire(ctx, c); err != nil {
		return nil, err
	}
	if m.from, err = r.HeadUnder(ctx, m.lease); err != nil {
		return nil, err
	}
	if err := r.Pin(ctx, c, m.from); err != nil {
		return nil, err
	}
	m.saved = m.from
	m.base = emptyTree()
	if m.from.Epoch != 0 {
		if m.base, err = r.Tree(ctx, m.from); err != nil {
			return nil, err
		}
	}
	if m.files, err = content(ctx, r, m.base); err != nil {
		return nil, err
	}
	m.writer = r.NewWriter(m.base, nil)
	return m, nil
}

func mustBegin(t *testing.T, r *store.Repo, host string) *mount {
	t.Helper()
	m, err := begin(t.Context(), r, store.Claim{Host: host, Mount: host + "-mount"})
	if err != nil {
		t.Fatalf("mount on %s: %v", host, err)
	}
	return m
}

// save makes a snapshot of m.files: the head or, without the lease, one beside the
// main line.
func (m *mount) save(ctx context.Context) error {
	err := m.saveOnce(ctx)
	if errors.Is(err, store.ErrMarked) {
		m.writer = m.repo.NewWriter(emptyTree(), nil)
		err = m.saveOnce(ctx)
	}
	return err
}

func (m *mount) saveOnce(ctx context.Context) error {
	next, whole, err := m.upload(ctx)
	if err != nil {
		return err
	}
	return m.commit(ctx, next, whole)
}

// upload does what comes before the commit.
func (m *mount) upload(ctx context.Context) (store.Snapshot, *tree.Tree, error) {
	patch, err := m.patch(ctx)
	if err != nil {
		return store.Snapshot{}, nil, err
	}
	index, whole, err := m.repo.SaveIndex(ctx, m.from.Index, m.base, patch)
	if err != nil {
		return store.Snapshot{}, nil, err
	}
	next := store.Snapshot{Index: index, Time: time.Now().UTC()}
	next.Files, next.Size = whole.Total()
	m.saving(index)
	return next, whole, nil
}

func (m *mount) commit(ctx context.Context, next store.Snapshot, whole *tree.Tree) error {
	if !m.lost {
		done, err := m.repo.Commit(ctx, m.lease, m.saved, next, whole)
		if err == nil {
			m.saved = done
		}
		if !errors.Is(err, store.ErrLeaseLost) {
			return err
		}
		m.lost = true
	}
	done, err := m.repo.CommitConflict(ctx, m.claim, m.saved, next)
	if err == nil {
		m.saved = done
	}
	return err
}

// patch uploads what is new in m.files.
func (m *mount) patch(ctx context.Context) (*tree.Tree, error) {
	b := tree.NewBuilder(tree.Patch, tree.Entry{Attr: tree.Attr{Mode: 0o40755}})
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		e, err := entry(ctx, m.writer, name, m.files[name])
		if err != nil {
			return nil, errors.Join(err, m.writer.Flush(ctx))
		}
		b.Add(0, e)
	}
	first, count := m.base.Children(tree.Root)
	for n := first; n < first+tree.Node(count); n++ {
		name := m.base.Name(n)
		if _, stays := m.files[string(name)]; !stays {
			b.Add(0, tree.Entry{Name: name, Flags: tree.Gone})
		}
	}
	if err := m.writer.Flush(ctx); err != nil {
		return nil, err
	}
	return b.Finish(m.writer.PackSize)
}

func entry(ctx context.Context, w *store.Writer, name, body string) (tree.Entry, error) {
	e := tree.Entry{Name: []byte(name), Attr: tree.Attr{Mode: 0o100644, Size: int64(len(body))}}
	for block := range slices.Chunk([]byte(body), store.BlockSize) {
		blob, err := w.Block(ctx, block)
		if err != nil {
			return e, err
		}
		offset := int64(len(e.Extents)) * store.BlockSize
		e.Extents = append(e.Extents, tree.Extent{Offset: offset, Blob: blob})
	}
	return e, nil
}

func (m *mount) mustSave(t *testing.T) {
	t.Helper()
	if err := m.save(t.Context()); err != nil {
		t.Fatalf("save on %s: %v", m.claim.Host, err)
	}
}

// content reads all files of a tree.
func content(ctx context.Context, r *store.Repo, of *tree.Tree) (files, error) {
	out := files{}
	first, count := of.Children(tree.Root)
	for n := first; n < first+tree.Node(count); n++ {
		var body []byte
		for e := range of.Extents(n) {
			raw, err := r.Read(ctx, e.Blob)
			if err != nil {
				return nil, err
			}
			body = append(body, raw...)
		}
		out[string(of.Name(n))] = string(body)
	}
	return out, nil
}

// contentOf reads all files of a snapshot, none of the zero one.
func contentOf(ctx context.Context, r *store.Repo, s store.Snapshot) (files, error) {
	if s.Epoch == 0 {
		return files{}, nil
	}
	of, err := r.Tree(ctx, s)
	if err != nil {
		return nil, err
	}
	return content(ctx, r, of)
}

// headContent reads what the head of the profile in b has.
func headContent(t *testing.T, b store.Bucket) files {
	t.Helper()
	r := open(t, b)
	head, err := r.Head(t.Context())
	if err != nil && !errors.Is(err, store.ErrNoSnapshot) {
		t.Fatal(err)
	}
	got, err := contentOf(t.Context(), r, head)
	if err != nil {
		t.Fatalf("read the head: %v", err)
	}
	return got
}

func wantHead(t *testing.T, b store.Bucket, want files) {
	t.Helper()
	if diff := cmp.Diff(want, headContent(t, b)); diff != "" {
		t.Errorf("head, -want +got:\n%s", diff)
	}
}

// wantSound checks that every snapshot is whole.
func wantSound(t *testing.T, b store.Bucket) {
	t.Helper()
	res, err := open(t, b).Check(t.Context(), true, nil)
	if err != nil || len(res.Faults) > 0 {
		t.Errorf("check: got faults %v, %v, want none", res.Faults, err)
	}
}

// snapshotNames returns the names that Snapshots shows.
func snapshotNames(t *testing.T, r *store.Repo) (names []string) {
	t.Helper()
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		names = append(names, s.Name())
	}
	return names
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

// keys returns those that begin with prefix.
func keys(t *testing.T, b store.Bucket, prefix store.Key) []store.Key {
	t.Helper()
	page, err := b.List(t.Context(), prefix, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []store.Key
	for _, o := range page.Objects {
		out = append(out, o.Key)
	}
	return out
}

// hooked passes calls on to a Bucket, with something done before or after some.
type hooked struct {
	store.Bucket
	before func(m storetest.Method, key store.Key)
	after  func(m storetest.Method, key store.Key)
}

func (h *hooked) around(m storetest.Method, key store.Key) func() {
	if h.before != nil {
		h.before(m, key)
	}
	return func() {
		if h.after != nil {
			h.after(m, key)
		}
	}
}

func (h *hooked) Put(ctx context.Context, key store.Key, body []byte) error {
	defer h.around(storetest.Put, key)()
	return h.Bucket.Put(ctx, key, body)
}

func (h *hooked) Create(ctx context.Context, key store.Key, body []byte) error {
	defer h.around(storetest.Create, key)()
	return h.Bucket.Create(ctx, key, body)
}

func (h *hooked) Get(ctx context.Context, key store.Key) ([]byte, error) {
	defer h.around(storetest.Get, key)()
	return h.Bucket.Get(ctx, key)
}

func (h *hooked) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	defer h.around(storetest.GetRange, key)()
	return h.Bucket.GetRange(ctx, key, offset, p)
}

func (h *hooked) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	defer h.around(storetest.List, prefix)()
	return h.Bucket.List(ctx, prefix, after, limit)
}

func (h *hooked) Delete(ctx context.Context, keys ...store.Key) error {
	if len(keys) > 0 {
		defer h.around(storetest.Delete, keys[0])()
	}
	return h.Bucket.Delete(ctx, keys...)
}

// once runs f at the first call that is m and whose key begins with prefix.
func once(m storetest.Method, prefix store.Key, f func()) func(storetest.Method, store.Key) {
	done := false
	return func(got storetest.Method, key store.Key) {
		if !done && got == m && strings.HasPrefix(string(key), string(prefix)) {
			done = true
			f()
		}
	}
}

// late is a Bucket whose next write below prefix fails, and takes effect when arrive is
// called.
type late struct {
	store.Bucket
	prefix store.Key
	arrive func()
}

func (l *late) hold(key store.Key, write func(context.Context) error) error {
	l.prefix = "-"
	l.arrive = func() { _ = write(context.Background()) }
	return fmt.Errorf("write %s: %w: no answer", key, store.ErrUnavailable)
}

func (l *late) Put(ctx context.Context, key store.Key, body []byte) error {
	if strings.HasPrefix(string(key), string(l.prefix)) {
		return l.hold(key, func(ctx context.Context) error { return l.Bucket.Put(ctx, key, body) })
	}
	return l.Bucket.Put(ctx, key, body)
}

func (l *late) Create(ctx context.Context, key store.Key, body []byte) error {
	if strings.HasPrefix(string(key), string(l.prefix)) {
		return l.hold(key, func(ctx context.Context) error { return l.Bucket.Create(ctx, key, body) })
	}
	return l.Bucket.Create(ctx, key, body)
}
