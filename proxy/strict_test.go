package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"
)

const testLimit = 1 << 20

func decodeCreate(body string) (map[string]any, error) {
	return newStrictDecoder(reflect.TypeFor[container.CreateRequest]()).decode(strings.NewReader(body), testLimit)
}

func TestDecodeStrict(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"plain", `{"Image":"a","HostConfig":{"Binds":["/a:/b"]}}`, `{"HostConfig":{"Binds":["/a:/b"]},"Image":"a"}`},
		{"case", `{"image":"a","hostconfig":{"bINDS":null}}`, `{"HostConfig":{"Binds":null},"Image":"a"}`},
		{"long s", `{"HoſtConfig":{}}`, `{"HostConfig":{}}`},
		{"kelvin sign", `{"HostConfig":{"Links":[],"NetworKMode":"host","BlkioWeight":1}}`, `{"HostConfig":{"BlkioWeight":1,"Links":[],"NetworkMode":"host"}}`},
		{"escaped name", `{"\u0048ostConfig":{}}`, `{"HostConfig":{}}`},
		{"in a list", `{"HostConfig":{"mounts":[{"type":"bind","SOURCE":"/x"}]}}`, `{"HostConfig":{"Mounts":[{"Source":"/x","Type":"bind"}]}}`},
		{"in a map's values", `{"NetworkingConfig":{"EndpointsConfig":{"n":{"aliases":["x"]}}}}`, `{"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["x"]}}}}`},
		{"embedded", `{"HostConfig":{"memory":1,"nanocpus":2}}`, `{"HostConfig":{"Memory":1,"NanoCpus":2}}`},
		{"map names are exact", `{"Labels":{"a":"1","A":"2"},"Volumes":{"/a":{},"/A":{}}}`, `{"Labels":{"A":"2","a":"1"},"Volumes":{"/A":{},"/a":{}}}`},
		{"unknown members stay", `{"futureThing":{"a":1,"A":2},"HostConfig":{"new":[{}]}}`, `{"HostConfig":{"new":[{}]},"futureThing":{"A":2,"a":1}}`},
		{"numbers stay exact", `{"HostConfig":{"Memory":9007199254740993},"x":1.0,"y":1e400}`, `{"HostConfig":{"Memory":9007199254740993},"x":1.0,"y":1e400}`},
		{"string or list", `{"Cmd":"sh","Entrypoint":["a"]}`, `{"Cmd":"sh","Entrypoint":["a"]}`},
		{"invalid UTF-8", "{\"Image\":\"a\xff\"}", `{"Image":"a�"}`},
		{"space around", " {} \n", `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := decodeCreate(tt.body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeStrictRefuses(t *testing.T) {
	deep := strings.Repeat(`[`, maxDepth+1) + strings.Repeat(`]`, maxDepth+1)
	tests := []struct {
		name, body string
		status     int
		want       string
	}{
		{"empty", " \n", 400, "the body is empty"},
		{"no object", `[]`, 400, "want object, got array"},
		{"null", `null`, 400, "want object, got null"},
		{"no JSON", `{"a":}`, 400, "no JSON document"},
		{"trailing comma", `{"a":1,}`, 400, "no JSON document"},
		{"trailing data", `{} {}`, 400, "no JSON document"},
		{"too large", `{"a":"` + strings.Repeat("x", testLimit) + `"}`, 413, "larger than 1048576 bytes"},
		{"too deep", `{"a":` + deep + `}`, 400, "deeper than 100 levels"},
		{"far too deep", `{"a":` + strings.Repeat(`[`, 500000), 400, ""},
		{"twice", `{"Image":"a","Image":"b"}`, 400, `body: member "Image" is given twice`},
		{"twice, folded", `{"HostConfig":{},"hostconfig":{}}`, 400, `body: member "HostConfig" is given twice ("HostConfig" and "hostconfig")`},
		{"twice, long s", `{"HoſtConfig":{},"HostConfig":{}}`, 400, `("HoſtConfig" and "HostConfig")`},
		{"twice, Kelvin sign", `{"HostConfig":{"NetworkMode":"a","Networ\u212aMode":"b"}}`, 400, `"HostConfig.NetworkMode" is given twice`},
		{"twice, unknown", `{"new":1,"NEW":2}`, 400, `("new" and "NEW")`},
		{"twice in a list", `{"HostConfig":{"Mounts":[{},{"Source":"a","source":"b"}]}}`, 400, `"HostConfig.Mounts[1].Source" is given twice`},
		{"twice in a map", `{"Labels":{"a":"1","a":"1"}}`, 400, `"Labels.a" is given twice`},
		{"twice below unknown", `{"new":{"a":1,"a":1}}`, 400, `"new.a" is given twice`},
		{"twice after folding to U+FFFD", "{\"Labels\":{\"\xff\":\"1\",\"\xfe\":\"1\"}}", 400, "is given twice"},
		{"type", `{"HostConfig":{"Binds":"/a:/b"}}`, 400, "HostConfig.Binds: want array, got string"},
		{"type of a struct", `{"hostconfig":[]}`, 400, "HostConfig: want object, got array"},
		{"type in a list", `{"HostConfig":{"Mounts":[{"Source":1}]}}`, 400, "HostConfig.Mounts.Source: want string, got number"},
		{"type of a number", `{"HostConfig":{"Memory":1.5}}`, 400, "HostConfig.Memory: want integer (int64), got number 1.5"},
		{"type read by itself", `{"Cmd":{}}`, 400, "Cmd: want string, got object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeCreate(tt.body)
			f, ok := errors.AsType[*fault](err)
			if !ok || f.status != tt.status || !strings.Contains(f.message, tt.want) {
				t.Errorf("got %#v, want %d …%s…", err, tt.status, tt.want)
			}
		})
	}
}

func TestCheckContentType(t *testing.T) {
	tests := []struct {
		header []string
		ok     bool
	}{
		{[]string{"application/json"}, true},
		{[]string{"Application/JSON; charset=utf-8"}, true},
		{nil, false},
		{[]string{"text/plain"}, false},
		{[]string{"application/json;;"}, false},
		{[]string{"application/json", "text/plain"}, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.header), func(t *testing.T) {
			if err := checkContentType(http.Header{"Content-Type": tt.header}); (err == nil) != tt.ok {
				t.Errorf("got %v, want ok = %v", err, tt.ok)
			}
		})
	}
}

// decoy has every rule about which field gets a name.
type decoy struct {
	Plain  int
	Tagged int `json:"tag"`
	Hidden int `json:"-"`
	Dash   int `json:"-,"`
	lower  int
	Left
	*Right
	Named Left `json:"named"`
}

type Left struct {
	Plain, Both, OnlyLeft int
	Rank                  int `json:"Rank"`
}

type Right struct {
	Both, OnlyRight int
	Rank            int
}

// The fields of a struct are those that encoding/json fills.
func TestJSONFields(t *testing.T) {
	_ = decoy{}.lower
	for _, typ := range []reflect.Type{reflect.TypeFor[decoy](), reflect.TypeFor[container.CreateRequest](), reflect.TypeFor[container.HostConfig]()} {
		t.Run(typ.String(), func(t *testing.T) {
			got := map[string]bool{}
			folded := map[string]string{}
			for _, f := range jsonFields(typ) {
				got[f.name] = true
				if other, ok := folded[fold(f.name)]; ok {
					t.Errorf("%s and %s fold together", f.name, other)
				}
				folded[fold(f.name)] = f.name
			}
			for _, name := range candidates(typ) {
				d := json.NewDecoder(strings.NewReader(fmt.Sprintf("{%q:null}", name)))
				d.DisallowUnknownFields()
				if known := d.Decode(reflect.New(typ).Interface()) == nil; known != got[name] {
					t.Errorf("%s: got %v, want %v", name, got[name], known)
				}
			}
		})
	}
}

// candidates lists the names that the fields of t and of what it embeds might have.
func candidates(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if name == "" || tag == "-" {
			name = f.Name
		}
		names = append(names, name)
	}
	return names
}

func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"a","Env":["A=b"],"Cmd":"sh","HostConfig":{"Binds":["/a:/b"],"Memory":1}}`,
		`{"HoſtConfig":{"mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"NoCopy":true}}]}}`,
		`{"Labels":{"a":"","A":""},"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"],"Interval":1}}`,
		`{"NetworkingConfig":{"EndpointsConfig":{"n":{"IPAMConfig":{"IPv4Address":"1"},"GwPriority":1}}}}`,
		`{"HostConfig":{"PortBindings":{"1/tcp":[{"HostIp":"","HostPort":"1"}]},"Ulimits":[{"Name":"a"}]}}`,
		`{"HostConfig":{"Sysctls":{"a":"b"},"Tmpfs":{"/t":""},"DeviceRequests":[{"Capabilities":[["gpu"]]}]}}`,
		`{"x":1,"X":2}`, `{"Image":"\ud800"}`, `{"a":[[[[1e9]]]]}`, "{\"\xff\":0}", `{"Image":null}`,
	} {
		f.Add([]byte(seed))
	}
	typ := reflect.TypeFor[container.CreateRequest]()
	decoder := newStrictDecoder(typ)
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := decoder.decode(bytes.NewReader(data), testLimit)
		if err != nil {
			return
		}
		again, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var want, got container.CreateRequest
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if err := json.Unmarshal(again, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("(-original +tree):\n%s", cmp.Diff(want, got))
		}
		if name := foldedTwice(tree, shapeOf(typ)); name != "" {
			t.Errorf("%q folds to another member", name)
		}
	})
}

// foldedTwice finds a member of a struct that folds to another one.
func foldedTwice(value any, as shape) string {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			if name := foldedTwice(v, shapeOf(as.item)); name != "" {
				return name
			}
		}
	case map[string]any:
		seen := map[string]bool{}
		for name, v := range value {
			_, key, typ := as.member(name)
			if seen[key] {
				return name
			}
			seen[key] = true
			if name := foldedTwice(v, shapeOf(typ)); name != "" {
				return name
			}
		}
	}
	return ""
}
