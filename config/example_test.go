package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

const example = "../config.toml.example"

// TestExample: the example is good as it stands.
func TestExample(t *testing.T) {
	cfg, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 {
		t.Errorf("warnings:\n%s", cfg.Warnings)
	}
}

// TestExampleUncommented: what is commented out is right too, up to what this version
// does not serve.
func TestExampleUncommented(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"firefox.json", "engineering.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Parse(filepath.Join(dir, "config.toml"), uncommented(t))
	faults, _ := err.(Faults)
	var got []string
	for _, f := range faults {
		got = append(got, f.Key)
	}
	want := []string{"proxy.listen[3].policy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys with faults (-want +got):\n%s\n%v", diff, err)
	}
}

// TestExampleComplete: every key that the file can have stands in the example.
func TestExampleComplete(t *testing.T) {
	var f file
	if _, err := toml.Decode(string(uncommented(t)), &f); err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	leaves(reflect.ValueOf(f), "", given)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !given[key] {
			t.Errorf("%s is missing", key)
		}
	}
}

// uncommented is the example with every setting that is commented out.
func uncommented(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^#([^ #\n])`).ReplaceAll(data, []byte("$1"))
}

// leaves notes of each leaf, by its table's name and its own, whether it is set in any
// such table. A table that a map or list could hold counts too.
func leaves(v reflect.Value, table string, given map[string]bool) {
	switch v.Kind() {
	case reflect.Map:
		leaves(reflect.Zero(v.Type().Elem()), table, given)
		for _, k := range v.MapKeys() {
			leaves(v.MapIndex(k), table, given)
		}
	case reflect.Slice:
		leaves(reflect.Zero(v.Type().Elem()), table, given)
		for i := range v.Len() {
			leaves(v.Index(i), table, given)
		}
	case reflect.Struct:
		if _, leaf := v.Interface().(typed); leaf {
			given[table] = given[table] || v.FieldByName("set").Bool()
			return
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			if _, leaf := v.Field(i).Interface().(typed); leaf {
				name = strings.TrimPrefix(table+"."+name, ".")
			}
			leaves(v.Field(i), name, given)
		}
	}
}
