package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// unknown returns a fault for every key that the type t has no place for. The decoder
// folds case; here a name is exact.
func unknown(keys []toml.Key, t reflect.Type) []Fault {
	var faults []Fault
	names := indexed(keys)
	for i, key := range keys {
		at := t
		for depth, name := range key {
			for at.Kind() == reflect.Slice {
				at = at.Elem()
			}
			if at.Kind() == reflect.Map {
				at = at.Elem()
				continue
			}
			if _, leaf := reflect.Zero(at).Interface().(typed); leaf {
				break // a table where a value belongs: reported as a wrong type
			}
			next, known := member(at, name)
			if next == nil {
				if depth == len(key)-1 {
					faults = append(faults, Fault{Key: names[i], Message: "unknown key" + hint(name, known)})
				}
				break
			}
			at = next
		}
	}
	return faults
}

// member finds the type of a struct's member by its TOML name, and all names.
func member(t reflect.Type, name string) (reflect.Type, []string) {
	var known []string
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("toml")
		if tag == name {
			return t.Field(i).Type, nil
		}
		known = append(known, tag)
	}
	return nil, known
}

// hint names the known key nearest to a wrong one.
func hint(name string, known []string) string {
	if name == "secret_access_key" {
		return ": secrets do not stand in this file; use secret_access_key_file"
	}
	best, distance := "", len(name)
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return fmt.Sprintf(" (known: %s)", strings.Join(known, ", "))
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// wrongTypes returns a fault for every leaf below v whose value is of the wrong type.
func wrongTypes(v reflect.Value, key string) []Fault {
	if leaf, ok := v.Interface().(typed); ok {
		if m := leaf.fault(); m != "" {
			return []Fault{{Key: key, Message: m}}
		}
		return nil
	}
	var faults []Fault
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			faults = append(faults, wrongTypes(v.Field(i), dotted(key, v.Type().Field(i).Tag.Get("toml")))...)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			faults = append(faults, wrongTypes(v.MapIndex(k), dotted(key, k.String()))...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			faults = append(faults, wrongTypes(v.Index(i), fmt.Sprintf("%s[%d]", key, i))...)
		}
	}
	return faults
}

// dotted writes a key below another as TOML would.
func dotted(key string, names ...string) string {
	for _, name := range names {
		quoted := toml.Key{name}.String()
		if key == "" {
			key = quoted
		} else {
			key += "." + quoted
		}
	}
	return key
}
