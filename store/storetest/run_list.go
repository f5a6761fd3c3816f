package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

func keysOf(l store.Listing) []store.Key {
	keys := []store.Key{}
	for _, o := range l.Objects {
		keys = append(keys, o.Key)
	}
	return keys
}

// odd are keys in byte order whose order or letters stores get wrong. None is the
// directory of another.
var odd = []store.Key{
	"A", "Z/z", "a b", "a!b", "a#b", "a%20b", "a&b", "a'b(c)*", "a+b", "a,b", "a-b", "a.b", "a/b", "a0",
	"a:b", "a;b", "a<b>", "a=b", "a?b=c", "a@b", "a[0]", "a\\b", "a^", "a_b", "a`", "aa", "a{}", "a|b", "a~b",
	"b/c.d", "b/c/d", "b/c0", "z", "é", "日本", "😀",
}

func testListOrder(t *testing.T, b store.Bucket) {
	if !slices.IsSorted(odd) {
		t.Fatal("the table is not in order")
	}
	for i := len(odd) - 1; i >= 0; i-- {
		put(t, b, odd[i], string(odd[i]))
	}
	l, err := b.List(t.Context(), "", "", 1000)
	if diff := cmp.Diff(odd, keysOf(l)); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
	for _, o := range l.Objects {
		if o.Size != int64(len(o.Key)) {
			t.Errorf("%s: got size %d, want %d", o.Key, o.Size, len(o.Key))
		}
		wantBody(t, b, o.Key, string(o.Key))
	}
	var paged []store.Key
	for after := store.Key(""); ; {
		l, err := b.List(t.Context(), "", after, 3)
		if err != nil || len(l.Objects) == 0 {
			t.Fatalf("after %q: got %+v, %v", after, l, err)
		}
		paged = append(paged, keysOf(l)...)
		if after = paged[len(paged)-1]; !l.More {
			break
		}
	}
	if diff := cmp.Diff(odd, paged); diff != "" {
		t.Errorf("in pages of 3: -want +got:\n%s", diff)
	}
	if err := b.Delete(t.Context(), odd...); err != nil {
		t.Error(err)
	}
	if l, err := b.List(t.Context(), "", "", 1000); err != nil || len(l.Objects) > 0 {
		t.Errorf("after the deletion: got %v, %v, want none", keysOf(l), err)
	}
}

func testListAfter(t *testing.T, b store.Bucket) {
	for _, key := range []store.Key{"p/b", "p/d", "p/f", "q"} {
		put(t, b, key, "")
	}
	for after, want := range map[store.Key][]store.Key{
		"":     {"p/b", "p/d", "p/f"},
		"a":    {"p/b", "p/d", "p/f"}, // before the prefix
		"p/":   {"p/b", "p/d", "p/f"},
		"p/b":  {"p/d", "p/f"},
		"p/b!": {"p/d", "p/f"}, // no such key
		"p/c":  {"p/d", "p/f"},
		"p/d":  {"p/f"},
		"p/f":  {},
		"p/zz": {},
		"z":    {}, // after the prefix
	} {
		l, err := b.List(t.Context(), "p/", after, 1000)
		if diff := cmp.Diff(want, keysOf(l)); err != nil || diff != "" || l.More {
			t.Errorf("after %q: got more %v, %v, -want +got:\n%s", after, l.More, err, diff)
		}
	}
}

func testListPrefix(t *testing.T, b store.Bucket) {
	all := []store.Key{"p-/x", "p.x", "p/1", "p/2/3", "p0", "pp/1"}
	for _, key := range all {
		put(t, b, key, "")
	}
	for prefix, want := range map[store.Key][]store.Key{
		"":      all,
		"p":     all,
		"p/":    {"p/1", "p/2/3"},
		"p/2":   {"p/2/3"},
		"p/2/":  {"p/2/3"},
		"p/1/":  {},
		"pp/":   {"pp/1"},
		"P":     {},
		"p/3":   {},
		"other": {},
	} {
		l, err := b.List(t.Context(), prefix, "", 1000)
		if diff := cmp.Diff(want, keysOf(l)); err != nil || diff != "" || l.More {
			t.Errorf("prefix %q: got more %v, %v, -want +got:\n%s", prefix, l.More, err, diff)
		}
	}
}

func testListPages(t *testing.T, b store.Bucket) {
	const n = 1003
	want := make([]store.Key, n)
	for i := range want {
		want[i] = store.Key(fmt.Sprintf("many/%04d", i))
	}
	for i, err := range each(n, 16, func(i int) error { return b.Put(t.Context(), want[i], []byte("x")) }) {
		if err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	for _, limit := range []int{1000, 334} {
		var got []store.Key
		after, more := store.Key(""), true
		for more {
			l, err := b.List(t.Context(), "many/", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Objects) == 0 || len(l.Objects) > limit {
				t.Fatalf("limit %d, after %q: got %d keys", limit, after, len(l.Objects))
			}
			got = append(got, keysOf(l)...)
			after, more = got[len(got)-1], l.More
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: -want +got:\n%s", limit, diff)
		}
	}
}

func testListLimits(t *testing.T, b store.Bucket) {
	for _, key := range []store.Key{"a", "b", "c"} {
		put(t, b, key, "")
	}
	for limit, want := range map[int]struct {
		keys []store.Key
		more bool
	}{
		1: {[]store.Key{"a"}, true},
		2: {[]store.Key{"a", "b"}, true},
		3: {[]store.Key{"a", "b", "c"}, false}, // exactly all
		4: {[]store.Key{"a", "b", "c"}, false},
	} {
		l, err := b.List(t.Context(), "", "", limit)
		if diff := cmp.Diff(want.keys, keysOf(l)); err != nil || diff != "" || l.More != want.more {
			t.Errorf("limit %d: got more %v, %v, want %v, -want +got:\n%s", limit, l.More, err, want.more, diff)
		}
	}
	for _, limit := range []int{-1, 0, 1001} {
		if _, err := b.List(t.Context(), "", "", limit); err == nil {
			t.Errorf("limit %d: got no error", limit)
		}
	}
}

func testListSeesWrites(t *testing.T, b store.Bucket) {
	if l, err := b.List(t.Context(), "", "", 10); err != nil || len(l.Objects) != 0 || l.More || l.Now.IsZero() {
		t.Errorf("at first: got %+v, %v, want an empty listing", l, err)
	}
	for i := range 20 {
		key := store.Key(fmt.Sprintf("w/%02d", i))
		body := strings.Repeat("x", i)
		if err := b.Create(t.Context(), key, []byte(body)); err != nil {
			t.Fatal(err)
		}
		wantBody(t, b, key, body)
		l, err := b.List(t.Context(), "w/", "", 1000)
		if err != nil || len(l.Objects) != i+1 || l.Objects[i].Key != key || l.Objects[i].Size != int64(i) {
			t.Fatalf("after create %s: got %v, %v", key, keysOf(l), err)
		}
	}
	for i := range 20 {
		key := store.Key(fmt.Sprintf("w/%02d", i))
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("after delete %s: got %v, want %v", key, err, store.ErrNotExist)
		}
		if l, err := b.List(t.Context(), "w/", "", 1000); err != nil || len(l.Objects) != 19-i {
			t.Fatalf("after delete %s: got %v, %v", key, keysOf(l), err)
		}
	}
}

func testClock(t *testing.T, b store.Bucket) {
	list := func() store.Listing {
		t.Helper()
		l, err := b.List(t.Context(), "", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := list().Now
	put(t, b, "k", "x")
	l := list()
	if len(l.Objects) != 1 {
		t.Fatalf("got %v, want one key", keysOf(l))
	}
	modified := l.Objects[0].Modified
	for name, at := range map[string]time.Time{"now": l.Now, "modified": modified} {
		if at.IsZero() || at.Location() != time.UTC {
			t.Errorf("%s: got %s, want a time in UTC", name, at)
		}
	}
	if l.Now.Before(before) {
		t.Errorf("the clock went from %s back to %s", before, l.Now)
	}
	// Each is to the second, and a store may round up.
	if modified.Before(before.Add(-time.Second)) || modified.After(l.Now.Add(time.Second)) {
		t.Errorf("modified: got %s, want it between %s and %s", modified, before, l.Now)
	}
}
