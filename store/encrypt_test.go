package store_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// masterKeys makes keys of these names, and returns their file too.
func masterKeys(t *testing.T, names ...string) (store.MasterKeys, string) {
	t.Helper()
	var lines strings.Builder
	for _, name := range names {
		var key [32]byte
		_, _ = rand.Read(key[:])
		fmt.Fprintf(&lines, "%s %s\n", name, base64.StdEncoding.EncodeToString(key[:]))
	}
	keys, err := store.ParseMasterKeys([]byte(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	return keys, lines.String()
}

// secret is content that must not be seen on the store.
var secret = strings.Repeat("the secret of the test ", 100)

// encrypted makes a profile with a file and returns how to open it.
func encrypted(t *testing.T, b store.Bucket, mode store.EncryptionMode, keys store.MasterKeys) store.Config {
	t.Helper()
	cfg := store.Config{Bucket: b, Now: clock, Encryption: store.Encryption{Mode: mode, Keys: keys}}
	r, err := store.OpenOrCreate(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := mustBegin(t, r, "a")
	m.files = files{"name-of-the-file": secret, "random": randomText()}
	m.mustSave(t)
	if err := m.lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func randomText() string {
	raw := make([]byte, 5000)
	_, _ = rand.Read(raw)
	return string(raw)
}

func headOf(t *testing.T, cfg store.Config) (files, error) {
	t.Helper()
	r, err := store.Open(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head, err := r.Head(t.Context())
	if err != nil {
		return nil, err
	}
	return contentOf(t.Context(), r, head)
}

func dump(t *testing.T, b store.Bucket) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, key := range keys(t, b, "") {
		body, err := b.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n%s\n", key, body)
	}
	return all.Bytes()
}

func TestNothingReadableIsStored(t *testing.T) {
	b := &storetest.Memory{}
	master, file := masterKeys(t, "k1")
	cfg := encrypted(t, b, store.EncryptClient, master)
	got, err := headOf(t, cfg)
	if err != nil || got["name-of-the-file"] != secret {
		t.Fatalf("got %d files, %v", len(got), err)
	}
	plain := &storetest.Memory{}
	encrypted(t, plain, store.EncryptNone, nil)
	raw, _ := base64.StdEncoding.DecodeString(strings.Fields(file)[1])
	hash := store.HashOf([]byte(secret))
	for what, word := range map[string][]byte{
		"content": []byte("secret of the"), "file name": []byte("name-of"), "hash": hash[:], "hash in hex": []byte(hex.EncodeToString(hash[:])),
		"master key": raw, "master key in base64": []byte(strings.Fields(file)[1]), "master key in hex": []byte(hex.EncodeToString(raw)),
	} {
		if bytes.Contains(dump(t, b), word) {
			t.Errorf("the store can read the %s", what)
		}
		if what == "hash" && !bytes.Contains(dump(t, plain), word) {
			t.Error("the test looks for what is not there in a plain profile either")
		}
	}
}

func TestKeysThatDoNotOpen(t *testing.T) {
	master, _ := masterKeys(t, "k1", "k2")
	same, _ := masterKeys(t, "k1")
	for _, mode := range []store.EncryptionMode{store.EncryptClient, store.EncryptSSEC} {
		b := &storetest.Memory{}
		cfg := encrypted(t, b, mode, master)
		for _, tt := range []struct {
			name string
			keys store.MasterKeys
			want error
		}{{"none", nil, store.ErrNoKey}, {"another", master[1:], store.ErrNoKey}, {"of the same name", same, store.ErrWrongKey}} {
			cfg.Encryption.Keys = tt.keys
			_, err := headOf(t, cfg)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "k1") {
				t.Errorf("%s, key %s: got %v, want %v with the name", mode, tt.name, err, tt.want)
			}
		}
		// The mode is the profile's own.
		cfg.Encryption = store.Encryption{Keys: master}
		if _, err := headOf(t, cfg); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// Any byte that is changed on the store, and objects in the place of others, are found.
func TestChangedBytesAreFound(t *testing.T) {
	master, _ := masterKeys(t, "k1")
	b, other := &storetest.Memory{}, &storetest.Memory{}
	cfg := encrypted(t, b, store.EncryptClient, master)
	encrypted(t, other, store.EncryptClient, master)
	for _, prefix := range []store.Key{"packs/", "index/", "snapshots/"} {
		key := keys(t, b, prefix)[0]
		body, err := b.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(body)/200)
		for at := 0; at < len(body); at += step {
			changed := bytes.Clone(body)
			changed[at] ^= 1
			if err := b.Put(t.Context(), key, changed); err != nil {
				t.Fatal(err)
			}
			if !found(t, cfg) {
				t.Errorf("byte %d of %s is changed, and nobody has seen it", at, key)
			}
		}
		foreign, err := other.Get(t.Context(), keys(t, other, prefix)[0])
		if err == nil {
			err = b.Put(t.Context(), key, foreign)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !found(t, cfg) {
			t.Errorf("%s is another profile's, and nobody has seen it", key)
		}
		if err := b.Put(t.Context(), key, body); err != nil {
			t.Fatal(err)
		}
	}
	if found(t, cfg) {
		t.Error("a fault is found where there is none")
	}
}

// found reports whether a check of all content finds a fault.
func found(t *testing.T, cfg store.Config) bool {
	t.Helper()
	r, err := store.Open(t.Context(), cfg)
	if err != nil {
		return true
	}
	defer r.Close()
	res, err := r.Check(t.Context(), true, nil)
	return err != nil || len(res.Faults) > 0
}

func TestRekey(t *testing.T) {
	master, _ := masterKeys(t, "new", "old")
	for _, mode := range []store.EncryptionMode{store.EncryptClient, store.EncryptSSEC, store.EncryptNone} {
		b := &storetest.Memory{}
		cfg := encrypted(t, b, mode, master[1:])
		before := keys(t, b, "")
		cfg.Encryption.Keys = master
		for i, want := range []bool{mode != store.EncryptNone, false} {
			if changed, err := store.Rekey(t.Context(), cfg); err != nil || changed != want {
				t.Errorf("%q, time %d: got %v, %v, want %v", mode, i, changed, err, want)
			}
		}
		cfg.Encryption.Keys = master[:1]
		if got, err := headOf(t, cfg); err != nil || got["name-of-the-file"] != secret {
			t.Errorf("%q: without the former key: got %d files, %v", mode, len(got), err)
		}
		if after := keys(t, b, ""); len(after) != len(before) {
			t.Errorf("%q: objects: got %v, want %v", mode, after, before)
		}
	}
}

// noSSEC is a store that has none.
type noSSEC struct{ store.Bucket }

func TestSSECIsRefused(t *testing.T) {
	master, _ := masterKeys(t, "k1")
	b := &storetest.Memory{}
	_, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: noSSEC{b}, Encryption: store.Encryption{Mode: store.EncryptSSEC, Keys: master}})
	if !errors.Is(err, store.ErrSSECRefused) || !strings.Contains(err.Error(), `encryption = "client"`) {
		t.Errorf("got %v, want %v with the way out", err, store.ErrSSECRefused)
	}
	if left := keys(t, b, ""); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestParseMasterKeys(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	for _, tt := range []struct{ name, file, want string }{
		{"good", "# keys\n\nnew " + good + " # in use\nold " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("o"), 32)), ""},
		{"empty", "# nothing\n", "there is none"},
		{"no name", good, "want a NAME"},
		{"odd name", "K1 " + good, "want a NAME"},
		{"short", "k1 " + base64.StdEncoding.EncodeToString([]byte("short")), "5 bytes"},
		{"not base64", "k1 ?", "not base64"},
		{"zeros", "k1 " + base64.StdEncoding.EncodeToString(make([]byte, 32)), "all zeros"},
		{"twice", "k1 " + good + "\nk1 " + good, "line 2: the name \"k1\" stands there twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := store.ParseMasterKeys([]byte(tt.file))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), good) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func FuzzParseMasterKeys(f *testing.F) {
	f.Add([]byte("k1 " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)) + "\n"))
	f.Add([]byte("# x\n\nk1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := store.ParseMasterKeys(data)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys and %v", len(keys), err)
		}
	})
}

// golden is a profile as the first version that encrypts wrote it: every later one reads it.
type golden struct {
	MasterKeys string               `json:"master_keys"`
	Objects    map[store.Key][]byte `json:"objects"`
}

const goldenContent = "what was written then can be read for ever"

func TestGoldenEncryptedProfile(t *testing.T) {
	for _, mode := range []store.EncryptionMode{store.EncryptClient, store.EncryptSSEC} {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join("testdata", "encrypted-"+string(mode)+".json")
			if *update {
				writeGolden(t, mode, path)
			}
			data, err := os.ReadFile(path)
			var g golden
			if err == nil {
				err = json.Unmarshal(data, &g)
			}
			if err != nil {
				t.Fatal(err)
			}
			keys, err := store.ParseMasterKeys([]byte(g.MasterKeys))
			if err != nil {
				t.Fatal(err)
			}
			b := &anyKey{}
			for key, body := range g.Objects {
				if err := b.Put(t.Context(), key, body); err != nil {
					t.Fatal(err)
				}
			}
			got, err := headOf(t, store.Config{Bucket: b, Now: clock, Encryption: store.Encryption{Keys: keys}})
			if diff := cmp.Diff(files{"file": goldenContent}, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if want := g.Objects["customer-key"]; mode == store.EncryptSSEC && !bytes.Equal(b.key[:], want) {
				t.Error("the customer key is derived otherwise than then")
			}
		})
	}
}

// anyKey notes the customer key and does nothing with it.
type anyKey struct {
	storetest.Memory
	key [32]byte
}

func (a *anyKey) WithCustomerKey(key [32]byte) store.Bucket {
	a.key = key
	return &a.Memory
}

var update = flag.Bool("update", false, "write the golden profiles anew, which no released version may need")

func writeGolden(t *testing.T, mode store.EncryptionMode, path string) {
	t.Helper()
	keys, file := masterKeys(t, "golden")
	b := &anyKey{}
	r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: b, Now: clock, Encryption: store.Encryption{Mode: mode, Keys: keys}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := mustBegin(t, r, "a")
	m.files = files{"file": goldenContent}
	m.mustSave(t)
	g := golden{MasterKeys: file, Objects: map[store.Key][]byte{}}
	for _, key := range listed(t, b) {
		if g.Objects[key], err = b.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if mode == store.EncryptSSEC {
		g.Objects["customer-key"] = b.key[:]
	}
	data, err := json.MarshalIndent(g, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, b store.Bucket) []store.Key { return keys(t, b, "") }

// A purge needs no key.
func TestPurgeOfAnEncryptedProfile(t *testing.T) {
	master, _ := masterKeys(t, "k1")
	for _, mode := range []store.EncryptionMode{store.EncryptClient, store.EncryptSSEC} {
		b := &storetest.Memory{}
		encrypted(t, b, mode, master)
		put(t, b, "valise.probe")
		res, err := store.Purge(t.Context(), store.Config{Bucket: b, Now: clock}, store.Claim{Host: "h", Mount: "m"}, false)
		if left := keys(t, b, ""); err != nil || len(left) > 0 || res.Objects == 0 {
			t.Errorf("%s: got %+v, %v, and left are %v", mode, res, err, left)
		}
	}
}

func put(t *testing.T, b store.Bucket, key store.Key) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// What a crash has left of the probe means nothing, and hides nothing.
func TestProbeLeftBehind(t *testing.T) {
	master, _ := masterKeys(t, "k1")
	b := &storetest.Memory{}
	put(t, b, "valise.probe")
	encrypted(t, b, store.EncryptSSEC, master)
	foreign := &storetest.Memory{}
	put(t, foreign, "valise.probe")
	put(t, foreign, "zebra")
	_, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: foreign, Now: clock})
	if err == nil || !strings.Contains(err.Error(), "zebra") {
		t.Errorf("among somebody's files: got %v", err)
	}
}

// A host that makes the first mount, and notes what the store can do, does not undo a
// rotation at the same time.
func TestRekeyBesideAFirstMount(t *testing.T) {
	master, _ := masterKeys(t, "new", "old")
	b := &storetest.Memory{}
	cfg := store.Config{Bucket: b, Now: clock, SingleHost: true, Encryption: store.Encryption{Mode: store.EncryptClient, Keys: master[1:]}}
	r, err := store.OpenOrCreate(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	hook := &hooked{Bucket: b}
	hook.before = once(storetest.Create, "valise.json", func() {
		cfg := store.Config{Bucket: b, Now: clock, Encryption: store.Encryption{Keys: master}}
		if changed, err := store.Rekey(t.Context(), cfg); err != nil || !changed {
			t.Errorf("rekey: got %v, %v", changed, err)
		}
	})
	cfg.SingleHost, cfg.Bucket = false, hook
	if r, err = store.OpenOrCreate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r, err = store.Open(t.Context(), store.Config{Bucket: b, Now: clock, Encryption: store.Encryption{Keys: master[:1]}})
	if err != nil {
		t.Fatalf("with the new key: %v", err)
	}
	r.Close()
}

func TestMasterKeysAreNotPrinted(t *testing.T) {
	master, file := masterKeys(t, "k1")
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(file)[1])
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ inner store.Encryption }{store.Encryption{Keys: master}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		shown := fmt.Sprintf(verb+verb, hidden, master)
		for _, form := range []string{strings.Trim(fmt.Sprint(raw[:4]), "[]"), hex.EncodeToString(raw[:4]), strings.Trim(fmt.Sprintf("%#v", raw[:4]), "[]byte{}")} {
			if strings.Contains(shown, form) {
				t.Errorf("%s shows the key: %s", verb, shown)
			}
		}
	}
}
