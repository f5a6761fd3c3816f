package tree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parse is Parse of data whose checksum is made right.
func parse(data []byte) (*Tree, error) {
	if len(data) >= headerSize {
		sum := checksum(data)
		copy(data[sumAt:], sum[:])
	}
	return Parse(data)
}

func TestParseReadsWhatWasWritten(t *testing.T) {
	for _, kind := range []Kind{Whole, Patch} {
		want := everything(t, kind)
		got, err := Parse(want.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if dump(got) != dump(want) || got.Kind() != kind {
			t.Errorf("got %s, want %s", dump(got), dump(want))
		}
	}
}

// TestParseRefusesAnyDamage changes each byte and cuts at each length.
func TestParseRefusesAnyDamage(t *testing.T) {
	good := everything(t, Patch).Bytes()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		_, err := Parse(bad)
		if newer := i == len(magic)-1; err == nil || errors.Is(err, ErrCorrupt) == newer {
			t.Errorf("byte %d changed: got %v", i, err)
		}
		if _, err := Parse(good[:i:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: got %v, want ErrCorrupt", i, err)
		}
	}
	if _, err := Parse(append(bytes.Clone(good), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: got %v, want ErrCorrupt", err)
	}
}

// TestParseVersion is of a tree that a later version wrote: it is not taken for damage.
func TestParseVersion(t *testing.T) {
	data := bytes.Clone(everything(t, Whole).Bytes())
	data[7] = 9
	_, err := Parse(data)
	if err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "version is 9") {
		t.Errorf("got %v, want an error that names the version", err)
	}
}

// TestParseSections damages the table of sections.
func TestParseSections(t *testing.T) {
	good := everything(t, Whole).Bytes()
	size := uint64(len(good))
	for i := range sections {
		at, length := tableAt+16*i, tableAt+16*i+8
		unit := uint64(entrySize[i])
		cases := map[string]func(p []byte){
			"before the one before": func(p []byte) { le.PutUint64(p[at:], headerSize-8) },
			"after the end":         func(p []byte) { le.PutUint64(p[at:], size+8) },
			"far after the end":     func(p []byte) { le.PutUint64(p[at:], 1<<63) },
			"longer than all":       func(p []byte) { le.PutUint64(p[length:], (size/unit+1)*unit) },
			"longer than anything":  func(p []byte) { le.PutUint64(p[length:], (1<<64-1)/unit*unit) },
		}
		if unit > 1 {
			cases["of a part of an entry"] = func(p []byte) { le.PutUint64(p[length:], le.Uint64(p[length:])-1) }
		}
		for name, damage := range cases {
			bad := bytes.Clone(good)
			damage(bad)
			if _, err := parse(bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("section %d %s: got %v, want ErrCorrupt", i, name, err)
			}
		}
	}
	bad := bytes.Clone(good)
	le.PutUint32(bad[8:], 2)
	if _, err := parse(bad); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an unknown kind: got %v, want ErrCorrupt", err)
	}
}

func TestMap(t *testing.T) {
	good := everything(t, Whole)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("good", func(t *testing.T) {
		path := write("good", good.Bytes())
		m, err := Map(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if dump(m) != dump(good) {
			t.Errorf("got %s, want %s", dump(m), dump(good))
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	damaged := bytes.Clone(good.Bytes())
	damaged[len(damaged)-1] ^= 1
	for name, data := range map[string][]byte{
		"empty": {}, "one byte": {'V'}, "cut short": good.Bytes()[:len(good.Bytes())-1], "damaged": damaged, "text": []byte(strings.Repeat("text", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			path := write("bad", data)
			if _, err := Map(path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want ErrCorrupt with the path", err)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		if _, err := Map(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	})
	t.Run("a directory", func(t *testing.T) {
		if _, err := Map(dir); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("close of what is not mapped", func(t *testing.T) {
		if err := good.Close(); err != nil {
			t.Error(err)
		}
	})
}
