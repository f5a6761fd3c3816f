package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
	"valise/store/storetest/server"
)

// ownKey is one for tests, whose text is easily found.
func ownKey(text string) (key [32]byte) {
	copy(key[:], strings.Repeat(text, 32))
	return key
}

// holds tells whether a file below dir has the text in it.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || bytes.Contains(data, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCustomerKeyKeepsTheContract(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Bucket {
		l := Location{"bucket", s.Endpoint, fmt.Sprintf("test %d/", n.Add(1))}
		return open(t, configOf(s, s.Credentials, l)).WithCustomerKey(ownKey("k"))
	})
}

func TestCustomerKeyOnMinIO(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	plain := open(t, configOf(s, s.User(t, server.Policy("bucket", "p/")), Location{"bucket", s.Endpoint, "p/"}))
	mine, other := plain.WithCustomerKey(ownKey("k")), plain.WithCustomerKey(ownKey("o"))
	// Small ones are in MinIO's metadata, large ones are files.
	small, large := []byte("small plaintext marker"), bytes.Repeat([]byte("large plaintext marker "), 1<<16)
	if err := plain.Put(t.Context(), "plain", []byte("marker of what is not encrypted")); err != nil {
		t.Fatal(err)
	}
	for key, body := range map[store.Key][]byte{"small": small, "large": large} {
		if err := mine.Create(t.Context(), key, body); err != nil {
			t.Fatal(err)
		}
		wantKind(t, "create again", mine.Create(t.Context(), key, nil), store.ErrExist, "object exists")
		if err := plain.Create(t.Context(), key, nil); err == nil { // MinIO denies it
			t.Error("create without the key: got no error")
		}
		wantKind(t, "create with another key", other.Create(t.Context(), key, nil), store.ErrExist, "object exists")
		if got, err := mine.Get(t.Context(), key); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: got %d bytes, %v", key, len(got), err)
		}
		p := make([]byte, 9)
		if err := mine.GetRange(t.Context(), key, 6, p); err != nil || string(p) != "plaintext" {
			t.Errorf("%s: got %q, %v", key, p, err)
		}

		_, err := plain.Get(t.Context(), key)
		wantKind(t, "get without the key", err, store.ErrDenied, "it takes the customer key that it was stored with")
		wantKind(t, "range without the key", plain.GetRange(t.Context(), key, 0, p), store.ErrDenied, "customer key")
		_, err = other.Get(t.Context(), key)
		wantKind(t, "get with another key", err, store.ErrDenied, "the customer key does not fit this object")
		err = other.GetRange(t.Context(), key, 0, p)
		wantKind(t, "range with another key", err, store.ErrDenied, "the customer key does not fit this object")
		if errors.Is(err, store.ErrSSECRefused) {
			t.Errorf("got %v, which is not the store's refusal of all keys", err)
		}
	}
	_, err := mine.Get(t.Context(), "plain")
	wantKind(t, "get with a key what has none", err, store.ErrDenied, "the customer key does not fit this object")
	if err := mine.Create(t.Context(), "plain", nil); err == nil || errors.Is(err, store.ErrSSECRefused) {
		t.Errorf("create with a key what there is without one: got %v", err)
	}
	_, err = mine.Get(t.Context(), "missing")
	wantKind(t, "missing", err, store.ErrNotExist, "get missing")

	if !holds(t, s.Dir, "marker of what is not encrypted") {
		t.Error("the server's disk does not have what is not encrypted: nothing is learned of the rest")
	}
	if holds(t, s.Dir, "plaintext") || holds(t, s.Dir, strings.Repeat("k", 32)) {
		t.Error("the server's disk has the plaintext or the key")
	}

	l, err := mine.List(t.Context(), "", "", 10)
	if err != nil || len(l.Objects) != 3 || l.Objects[0].Size != int64(len(large)) {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := mine.Delete(t.Context(), "small", "large"); err != nil {
		t.Error(err)
	}

	elsewhere := open(t, configOf(s, s.User(t, server.Policy("bucket", "p/")), Location{"bucket", s.Endpoint, "q/"}))
	wantKind(t, "put without the right", elsewhere.WithCustomerKey(ownKey("k")).Put(t.Context(), "k", nil),
		store.ErrDenied, "the credentials lack the right, or the bucket blocks")
}

// TestCustomerKeyIsIgnored: this store would keep what was to be encrypted as it is.
func TestCustomerKeyIsIgnored(t *testing.T) {
	s := server.VersityGW(t)
	s.Bucket(t, "bucket")
	plain := open(t, configOf(s, s.Credentials, Location{"bucket", s.Endpoint, "p/"}))
	mine := plain.WithCustomerKey(ownKey("k"))
	if err := plain.Put(t.Context(), "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	_, get := mine.Get(t.Context(), "k")
	for op, err := range map[string]error{
		"get": get, "range": mine.GetRange(t.Context(), "k", 0, make([]byte, 1)),
		"put": mine.Put(t.Context(), "k", []byte("x")), "create": mine.Create(t.Context(), "new", []byte("x")),
	} {
		wantKind(t, op, err, nil, "ignores the key")
		if !errors.Is(err, store.ErrSSECRefused) {
			t.Errorf("%s: got %v, want %v", op, err, store.ErrSSECRefused)
		}
	}
}

// tlsFake is a fake store with TLS.
func tlsFake(t *testing.T, a answer) (*fake, Config) {
	f, c := amazonConfig(t, a)
	c.Region = "eu-west-1"
	return f, c
}

func TestHeadersOfACustomerKey(t *testing.T) {
	const algorithm, key, sum = "X-Amz-Server-Side-Encryption-Customer-Algorithm",
		"X-Amz-Server-Side-Encryption-Customer-Key", "X-Amz-Server-Side-Encryption-Customer-Key-Md5"
	f, c := tlsFake(t, func(w http.ResponseWriter, r request, n int) {
		for _, name := range []string{algorithm, sum} {
			w.Header().Set(name, r.header.Get(name))
		}
		if r.method == http.MethodGet && r.path == "/" {
			emptyList(w)
			return
		}
		partial(w, r, "body", 4)
	})
	own := ownKey("k")
	digest := md5.Sum(own[:])
	b := open(t, c).WithCustomerKey(own)
	_, get := b.Get(t.Context(), "k")
	_, list := b.List(t.Context(), "", "", 1)
	if err := errors.Join(get, list, b.Put(t.Context(), "k", nil), b.Create(t.Context(), "k", nil),
		b.GetRange(t.Context(), "k", 1, make([]byte, 2)), b.Delete(t.Context(), "k")); err != nil {
		t.Fatal(err)
	}
	with := []string{"AES256", base64.StdEncoding.EncodeToString(own[:]), base64.StdEncoding.EncodeToString(digest[:])}
	for i, r := range f.requests() {
		want := with
		if i == 1 || r.method == http.MethodDelete {
			want = []string{"", "", ""}
		}
		if diff := cmp.Diff(want, []string{r.header.Get(algorithm), r.header.Get(key), r.header.Get(sum)}); diff != "" {
			t.Errorf("%s %s?%s: -want +got:\n%s", r.method, r.path, r.query, diff)
		}
	}
}

func TestCustomerKeyWithoutTLS(t *testing.T) {
	f := newFake(t, nil)
	b := f.open(t).WithCustomerKey(ownKey("k"))
	_, get := b.Get(t.Context(), "dir/k")
	for op, err := range map[string]error{
		"get dir/k": get, "get k": b.GetRange(t.Context(), "k", 0, make([]byte, 1)),
		"put k": b.Put(t.Context(), "k", nil), "create k": b.Create(t.Context(), "k", nil),
	} {
		wantKind(t, op, err, nil, op+": "+store.ErrSSECRefused.Error())
		wantKind(t, op, err, nil, "has no TLS")
		if !errors.Is(err, store.ErrSSECRefused) {
			t.Errorf("%s: got %v", op, err)
		}
	}
	if f.count() != 0 {
		t.Errorf("got %d requests, want that no key is sent", f.count())
	}
}

func TestRefusalsOfACustomerKey(t *testing.T) {
	const lacks = "User: u is not authorized to perform: s3:PutObject because no identity-based policy allows it"
	for _, c := range []struct {
		status        int
		code, message string
		putRefused    bool
		put           error
		get           error
		want, wantGet string
	}{
		{501, "NotImplemented", "A header you provided implies functionality that is not implemented.", true, nil, nil, "SSE-C", "SSE-C"},
		{400, "InvalidRequest", "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.", true, nil, nil, "SSE-C", "SSE-C"},
		{400, "InvalidRequest", "SSE-C encryption parameters are not supported on replicated bucket.", true, nil, nil, "SSE-C", "SSE-C"},
		{403, "AccessDenied", "Access Denied", true, store.ErrDenied, store.ErrDenied, "BlockedEncryptionTypes", "does not fit this object, or"},
		{403, "AccessDenied", "The bucket blocks SSE-C.", true, store.ErrDenied, store.ErrDenied, "refuses customer", "does not fit this object, or"},
		{403, "AccessDenied", lacks, false, store.ErrDenied, store.ErrDenied, "allows it", "allows it"},
		{400, "InvalidRequest", "The encryption parameters are not applicable to this object.", false, store.ErrDenied, store.ErrDenied, "the customer key does not fit this object", "the customer key does not fit this object"},
		{403, "SignatureDoesNotMatch", "Check.", false, store.ErrDenied, store.ErrDenied, "Check.", "Check."},
		{400, "ExpiredToken", "Over.", false, store.ErrDenied, store.ErrDenied, "Over.", "Over."},
		{503, "SlowDown", "Later.", false, store.ErrUnavailable, store.ErrUnavailable, "Later.", "Later."},
		{404, "NoSuchKey", "No.", false, store.ErrNotExist, store.ErrNotExist, "not exist", "not exist"},
	} {
		_, config := tlsFake(t, func(w http.ResponseWriter, r request, n int) {
			refuse(w, c.status, c.code, c.message, "")
		})
		b := open(t, config).WithCustomerKey(ownKey("k"))
		put := b.Put(t.Context(), "k", nil)
		wantKind(t, c.message+" put", put, c.put, c.want)
		_, get := b.Get(t.Context(), "k")
		wantKind(t, c.message+" get", get, c.get, c.wantGet)
		if errors.Is(put, store.ErrSSECRefused) != c.putRefused {
			t.Errorf("got %v, want SSE-C refused to be %t", put, c.putRefused)
		}
	}
}

// TestCustomerKeyIsNotTold has a store that repeats all that it is sent.
func TestCustomerKeyIsNotTold(t *testing.T) {
	own := ownKey("k")
	secrets := []string{string(own[:]), base64.StdEncoding.EncodeToString(own[:]), fmt.Sprintf("%x", own), fmt.Sprint(own)}
	_, c := tlsFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 503, "SlowDown", "You sent "+r.header.Get("X-Amz-Server-Side-Encryption-Customer-Key"), "")
	})
	var log bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	plain, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	b := plain.WithCustomerKey(own)
	_, get := b.Get(t.Context(), "k")
	put := b.Put(t.Context(), "k", nil)
	wantKind(t, "put", put, store.ErrUnavailable, "You sent (the customer key)")
	c.Log.Info("all of it", "bucket", b, "plain", plain)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("all of it", "bucket", b)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{b, plain, []store.Bucket{b}, struct{ B store.Bucket }{b}, get, put} {
			fmt.Fprintf(&log, verb+"\n", v)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in %s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "retrying") || !strings.Contains(log.String(), "bucket/p/ with a customer key") {
		t.Errorf("got %s", log.String())
	}
}
