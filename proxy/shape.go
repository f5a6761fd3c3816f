package proxy

import (
	"cmp"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// A shape is what a Go type says about the JSON that is decoded into it. The zero shape
// says nothing: names are exact and values unknown.
type shape struct {
	exact, folded map[string]jsonField // a struct's fields by name, nil for all else
	item          reflect.Type         // of an array's or a map's values
}

// A jsonField is a struct's field as encoding/json sees it.
type jsonField struct {
	name   string
	typ    reflect.Type
	depth  int // how many embedded structs it is below
	tagged bool
}

// shapeOf looks through pointers. A type with an unmarshaller of its own reads what it
// likes, so nothing is known below it.
func shapeOf(t reflect.Type) shape {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || unmarshalsItself(t) {
		return shape{}
	}
	switch t.Kind() {
	case reflect.Struct:
		s := shape{exact: map[string]jsonField{}, folded: map[string]jsonField{}}
		for _, f := range jsonFields(t) {
			s.exact[f.name] = f
			if _, taken := s.folded[fold(f.name)]; !taken { // as encoding/json prefers
				s.folded[fold(f.name)] = f
			}
		}
		return s
	case reflect.Map, reflect.Slice, reflect.Array:
		return shape{item: t.Elem()}
	}
	return shape{}
}

// addShapes notes the shape of t and of every type that it holds.
func addShapes(known map[reflect.Type]shape, t reflect.Type) {
	if _, done := known[t]; done || t == nil {
		return
	}
	s := shapeOf(t)
	known[t] = s
	addShapes(known, s.item)
	for _, f := range s.exact {
		addShapes(known, f.typ)
	}
}

func unmarshalsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// member resolves a member's name: what the decoder takes it for, a key that two names
// share when they are the same member, and the type of its value.
func (s shape) member(name string) (canonical, key string, value reflect.Type) {
	if s.exact == nil {
		return name, name, s.item
	}
	key = fold(name)
	f, known := s.exact[name]
	if !known {
		f, known = s.folded[key]
	}
	if !known {
		return name, key, nil
	}
	return f.name, key, f.typ
}

// fold maps names that encoding/json takes for the same field to one: the smallest rune
// of each rune's simple folding orbit, which for k and K is not the Kelvin sign.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

// jsonFields lists the fields of struct t that encoding/json decodes into, by its rules
// for embedded structs: of fields with one name the least deep counts, among these the
// one with a tag, and none if that leaves several.
func jsonFields(t reflect.Type) []jsonField {
	found := map[string][]jsonField{}
	var names []string
	collect(t, 0, map[reflect.Type]bool{}, func(f jsonField) {
		if found[f.name] == nil {
			names = append(names, f.name)
		}
		found[f.name] = append(found[f.name], f)
	})
	var fields []jsonField
	for _, name := range names {
		same := found[name]
		slices.SortStableFunc(same, func(a, b jsonField) int {
			if a.depth != b.depth {
				return cmp.Compare(a.depth, b.depth)
			}
			if a.tagged == b.tagged {
				return 0
			}
			if a.tagged {
				return -1
			}
			return 1
		})
		if len(same) > 1 && same[0].depth == same[1].depth && same[0].tagged == same[1].tagged {
			continue
		}
		fields = append(fields, same[0])
	}
	return fields
}

// collect calls add for every field of t and of what it embeds.
func collect(t reflect.Type, depth int, above map[reflect.Type]bool, add func(jsonField)) {
	if above[t] {
		return // an embedded struct that embeds itself adds nothing
	}
	above[t] = true
	defer delete(above, t)
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		embedded := f.Anonymous && inner.Kind() == reflect.Struct
		if embedded && name == "" {
			collect(inner, depth+1, above, add)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		add(jsonField{name: name, typ: f.Type, depth: depth, tagged: tag != "" && !strings.HasPrefix(tag, ",")})
	}
}
