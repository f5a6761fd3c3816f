package proxy

import (
	"encoding/json"
	"reflect"
	"strings"
)

// A memberPath is where a value stands in a document, "HostConfig.Mounts[2].Type". The
// document itself is nil.
type memberPath struct {
	above *memberPath
	step  string
	level int
}

func (p *memberPath) at(step string) *memberPath {
	return &memberPath{above: p, step: step, level: p.depth() + 1}
}

func (p *memberPath) depth() int {
	if p == nil {
		return 0
	}
	return p.level
}

func (p *memberPath) String() string {
	if p == nil {
		return "body"
	}
	if p.above == nil {
		return p.step
	}
	if strings.HasPrefix(p.step, "[") {
		return p.above.String() + p.step
	}
	return p.above.String() + "." + p.step
}

// fieldPath is a path of json.UnmarshalTypeError below type as, without the names of
// embedded structs, which the document does not have.
func fieldPath(as reflect.Type, path string) string {
	var steps []string
	for step := range strings.SplitSeq(path, ".") {
		as = structBelow(as)
		f, known := shapeOf(as).exact[step]
		if known {
			as = f.typ
		} else if as != nil {
			if e, ok := as.FieldByName(step); ok && e.Anonymous {
				as = e.Type
				continue
			}
			as = nil
		}
		steps = append(steps, step)
	}
	if joined := strings.Join(steps, "."); joined != "" {
		return joined
	}
	return "body"
}

// structBelow is the struct that t is, points to, or has elements of, nil if none.
func structBelow(t reflect.Type) reflect.Type {
	for t != nil {
		switch t.Kind() {
		case reflect.Struct:
			return t
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array:
			t = t.Elem()
		default:
			return nil
		}
	}
	return nil
}

// jsonKind names a decoded value's JSON type.
func jsonKind(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case string:
		return "string"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// wanted names the JSON type that is decoded into t.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.String, reflect.Bool:
		return t.Kind().String()
	}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr {
		return "integer (" + t.Kind().String() + ")"
	}
	return t.String()
}
