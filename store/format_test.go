package store

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"valise/tree"
)

func TestUnseal(t *testing.T) {
	want := Snapshot{
		Epoch: 3, Seq: 7, Parent: "snapshots/x", Time: time.Unix(1e9, 5).UTC(), Host: `<host> & "one"`, Mount: "m", Nonce: "n",
		Index: []Index{{ID: "i", Size: 4, Parts: []Part{{Size: 2, Sum: "00"}}}}, Files: 1, Size: math.MaxInt64,
	}
	data, err := seal(formatSnapshot, want)
	if err != nil {
		t.Fatal(err)
	}
	var got Snapshot
	if err := unseal("k", formatSnapshot, data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Snapshot{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	edit := func(old, to string) []byte {
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%s has no %q", data, old)
		}
		return bytes.Replace(data, []byte(old), []byte(to), 1)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want error // nil: one that is not ErrCorrupt
		says string
	}{
		{"empty", nil, ErrCorrupt, "some/key"},
		{"truncated", data[:len(data)-1], ErrCorrupt, "some/key"},
		{"followed by something", append(bytes.Clone(data), 'x'), ErrCorrupt, "some/key"},
		{"changed body", edit(`"seq":7`, `"seq":8`), ErrCorrupt, "wrong checksum"},
		{"changed checksum", edit(`"blake3":"`, `"blake3":"0`), ErrCorrupt, "wrong checksum"},
		{"no body", []byte(`{"format":"valise-snapshot-1"}`), ErrCorrupt, "wrong checksum"},
		{"newer", edit("valise-snapshot-1", "valise-snapshot-2"), nil, `"valise-snapshot-2", and this version of valise reads "valise-snapshot-1"`},
		{"another kind", edit("valise-snapshot-1", "valise-lease-1"), nil, "valise-lease-1"},
		{"something else", []byte(`{"format":"` + strings.Repeat("x", 1000) + `"}`), nil, `"xxxx`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := unseal("some/key", formatSnapshot, tt.data, &got)
			if err == nil || errors.Is(err, ErrCorrupt) != (tt.want != nil) || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > 300 {
				t.Errorf("got error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestKeysSortNewestFirst(t *testing.T) {
	order := []Snapshot{
		{Epoch: math.MaxUint64, Seq: 1}, {Epoch: 256, Seq: 1}, {Epoch: 2, Seq: math.MaxUint64}, {Epoch: 2, Seq: 16}, {Epoch: 2, Seq: 2}, {Epoch: 1, Seq: 99},
	}
	for i := 1; i < len(order); i++ {
		if newer, old := order[i-1].Key(), order[i].Key(); newer >= old || !older(old, newer) || older(newer, old) {
			t.Errorf("%s does not sort before %s", newer, old)
		}
	}
	if older("", "") || !older("", order[0].Key()) || older(order[0].Key(), "") {
		t.Error("no snapshot is not older than any")
	}
	for _, epoch := range []uint64{0, 1, 1 << 40, math.MaxUint64} {
		if got, err := epochOf(leaseKey(epoch)); err != nil || got != epoch {
			t.Errorf("epoch %d: got %d, %v", epoch, got, err)
		}
	}
	for _, key := range []Key{"lease/", "lease/1", "lease/fffffffffffffffg", "lease/+00000000000000f", "lease/00000000000000000"} {
		if got, err := epochOf(key); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got epoch %d, %v, want %v", key, got, err, ErrCorrupt)
		}
	}
}

// aPack is one of two blocks.
func aPack() (tree.PackID, []byte, []tree.Blob) {
	id := tree.PackID{1, 2, 3}
	blobs := []tree.Blob{
		{Hash: HashOf([]byte("one")), Pack: id, Offset: 0, Stored: 3, Raw: 3},
		{Hash: HashOf([]byte("three")), Pack: id, Offset: 3, Stored: 5, Raw: 5},
	}
	return id, (*sealer)(nil).sealPack(id, []byte("onethree"), blobs), blobs
}

// resum makes the table's checksum right again.
func resum(body []byte) []byte {
	end := len(body) - packTrailer
	at := max(0, end-int(le.Uint32(body[end:]))*packEntry)
	sum := blake3.Sum256(body[at : end+4])
	copy(body[end+4:], sum[:])
	return body
}

func TestParsePack(t *testing.T) {
	id, body, want := aPack()
	got, err := (*sealer)(nil).parsePack(id, body)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("got %v, -want +got:\n%s", err, diff)
	}
	table, end := len(body)-packTrailer-2*packEntry, len(body)-packTrailer
	for _, tt := range []struct {
		name string
		edit func(p []byte) []byte
		says string
	}{
		{"empty", func([]byte) []byte { return nil }, "does not end"},
		{"truncated", func(p []byte) []byte { return p[:len(p)-1] }, "does not end"},
		{"newer", func(p []byte) []byte { p[len(p)-1] = 2; return p }, "version is 2"},
		{"a flipped bit in the table", func(p []byte) []byte { p[table] ^= 1; return p }, "checksum"},
		{"more blocks than fit", func(p []byte) []byte { le.PutUint32(p[end:], 3); return p }, "does not fit"},
		{"far more", func(p []byte) []byte { le.PutUint32(p[end:], math.MaxUint32); return p }, "does not fit"},
		{"a block beyond the others", func(p []byte) []byte { le.PutUint32(p[table+32:], 6); return resum(p) }, "outside"},
		{"a block as long as can be", func(p []byte) []byte { le.PutUint32(p[table+36:], math.MaxUint32); return resum(p) }, "outside"},
		{"a block too large", func(p []byte) []byte { le.PutUint32(p[table+40:], BlockSize+1); return resum(p) }, "outside"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := (*sealer)(nil).parsePack(id, tt.edit(bytes.Clone(body)))
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), id.String()) {
				t.Errorf("got %v, %v, want an error that says %q", got, err, tt.says)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	c, err := NewCoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw := bytes.Repeat([]byte("text "), 1000)
	stored := c.Encode(HashOf(raw), raw)
	right := tree.Blob{Hash: HashOf(raw), Stored: uint32(len(stored)), Raw: uint32(len(raw))}
	if got, err := c.Decode(right, stored); err != nil || !bytes.Equal(got, raw) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	for name, edit := range map[string]func(*tree.Blob){
		"another hash":    func(b *tree.Blob) { b.Hash[0] ^= 1 },
		"a shorter block": func(b *tree.Blob) { b.Raw-- },
		"a longer block":  func(b *tree.Blob) { b.Raw++ },
		"too long":        func(b *tree.Blob) { b.Raw = BlockSize + 1 },
		"plain bytes":     func(b *tree.Blob) { b.Raw = b.Stored },
		"stored shorter":  func(b *tree.Blob) { b.Stored-- },
	} {
		t.Run(name, func(t *testing.T) {
			b := right
			edit(&b)
			if got, err := c.Decode(b, stored); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %d bytes, %v, want %v", len(got), err, ErrCorrupt)
			}
		})
	}
}

func FuzzUnseal(f *testing.F) {
	data, err := seal(formatLease, leaseBody{Epoch: 1, State: LeaseActive, TTL: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte(`{"format":"valise-lease-1","blake3":"","body":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var body leaseBody
		if unseal("lease/x", formatLease, data, &body) != nil {
			return
		}
		again, err := seal(formatLease, body)
		if err != nil {
			t.Fatal(err)
		}
		var same leaseBody
		if err := unseal("lease/x", formatLease, again, &same); err != nil || same != body {
			t.Errorf("got %+v, %v after %+v", same, err, body)
		}
	})
}

func FuzzParsePack(f *testing.F) {
	id, body, _ := aPack()
	f.Add(body)
	f.Add(body[8:])
	f.Add((*sealer)(nil).sealPack(tree.PackID{}, nil, nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) >= packTrailer {
			body = resum(body)
		}
		blobs, err := (*sealer)(nil).parsePack(id, body)
		if err != nil {
			return
		}
		for _, b := range blobs {
			if _ = body[b.Offset:][:b.Stored]; b.Raw > BlockSize || b.Pack != id {
				t.Errorf("got block %+v", b)
			}
		}
		data := body[:len(body)-packTrailer-len(blobs)*packEntry]
		if again := (*sealer)(nil).sealPack(id, bytes.Clone(data), blobs); !bytes.Equal(again, body) {
			t.Errorf("sealed again: got %x, want %x", again, body)
		}
	})
}

func FuzzEpochOf(f *testing.F) {
	f.Add("lease/fffffffffffffffe")
	f.Add("lease/0")
	f.Add("fffffffffffffffe")
	f.Fuzz(func(t *testing.T, key string) {
		epoch, err := epochOf(Key(key))
		if err == nil && leaseKey(epoch) != Key(key) {
			t.Errorf("%q: got epoch %d, whose key is %s", key, epoch, leaseKey(epoch))
		}
	})
}
