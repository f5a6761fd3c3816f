package s3

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// aboutChecksums are the names of the headers that are, sorted.
func aboutChecksums(r request) []string {
	var names []string
	for name := range r.header {
		if lower := strings.ToLower(name); strings.Contains(lower, "checksum") || strings.Contains(lower, "trailer") ||
			lower == "content-md5" || lower == "content-encoding" || lower == "transfer-encoding" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestChecksumsOnTheWire(t *testing.T) {
	const body = "0123456789"
	asked := []string{"X-Amz-Checksum-Mode"}
	given := []string{"X-Amz-Checksum-Crc32"}
	for name, test := range map[string]struct {
		request, response       string // of Config
		requestEnv, responseEnv string
		put, get                []string
	}{
		"default":                 {"", "", "", "", given, asked},
		"required":                {"when_required", "when_required", "", "", nil, nil},
		"required, in capitals":   {"WHEN_REQUIRED", "When_Required", "", "", nil, nil},
		"requests alone":          {"when_required", "", "", "", nil, asked},
		"answers alone":           {"", "when_required", "", "", given, nil},
		"environment":             {"", "", "when_required", "when_required", nil, nil},
		"environment in capitals": {"", "", "WHEN_REQUIRED", "When_Required", nil, nil},
		"above the environment":   {"WHEN_SUPPORTED", "when_supported", "when_required", "when_required", given, asked},
		"below nothing":           {"when_required", "when_required", "when_supported", "when_supported", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, r request, n int) {
				switch {
				case r.method == http.MethodGet && r.path == "/bucket":
					emptyList(w)
				case r.method == http.MethodGet:
					partial(w, r, body, len(body))
				}
			})
			c := f.config(t)
			c.RequestChecksumCalculation, c.ResponseChecksumValidation = test.request, test.response
			if test.requestEnv != "" {
				t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", test.requestEnv)
				t.Setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", test.responseEnv)
			}
			b := open(t, c)
			_, get := b.Get(t.Context(), "k")
			_, list := b.List(t.Context(), "", "", 1)
			for op, err := range map[string]error{
				"get": get, "range": b.GetRange(t.Context(), "k", 1, make([]byte, 2)), "list": list,
				"put": b.Put(t.Context(), "k", []byte(body)), "create": b.Create(t.Context(), "k", []byte(body)),
				"delete": b.Delete(t.Context(), "k"),
			} {
				if err != nil {
					t.Errorf("%s: %v", op, err)
				}
			}
			var puts, whole, others []string
			for _, r := range f.requests() {
				got := aboutChecksums(r)
				switch {
				case r.method == http.MethodPut:
					if diff := cmp.Diff(test.put, got); diff != "" || r.body != body {
						t.Errorf("put: body %q, -want +got:\n%s", r.body, diff)
					}
					puts = append(puts, r.header.Get(given[0]))
				case r.method == http.MethodGet && r.path == "/bucket/p/k" && r.header.Get("Range") == "":
					whole = got
				default:
					others = append(others, got...)
				}
			}
			want := ""
			if test.put != nil {
				want = checksum([]byte(body))
			}
			if diff := cmp.Diff([]string{want, want}, puts); diff != "" {
				t.Errorf("put and create: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(test.get, whole); diff != "" {
				t.Errorf("get: -want +got:\n%s", diff)
			}
			if len(others) != 0 {
				t.Errorf("a range, a listing or a deletion has %v", others)
			}
		})
	}
}

func TestChecksumSettingsThatAreNone(t *testing.T) {
	f := newFake(t, nil)
	for _, name := range []string{"AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"} {
		t.Run(name, func(t *testing.T) {
			c := f.config(t)
			t.Setenv(name, "never")
			_, err := New(t.Context(), c)
			wantKind(t, name, err, nil, name)
		})
	}
}
