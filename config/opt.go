package config

import "fmt"

// opt is a leaf of the file: a value that may be missing, or of the wrong type.
type opt[T any] struct {
	value T
	set   bool
	wrong string // what is wrong with its type
}

// typed lets the checks ask any leaf for its type's fault.
type typed interface{ fault() string }

func (o opt[T]) fault() string { return o.wrong }

// UnmarshalTOML takes the decoded value; it never fails (toml.Unmarshaler).
func (o *opt[T]) UnmarshalTOML(in any) error {
	o.set = true
	if v, ok := in.(T); ok {
		o.value = v
		return nil
	}
	if list, ok := any(&o.value).(*[]string); ok {
		if items, isList := in.([]any); isList {
			for _, item := range items {
				s, isString := item.(string)
				if !isString {
					o.wrong = "want a list of strings, one is " + kind(item)
					return nil
				}
				*list = append(*list, s)
			}
			return nil
		}
	}
	o.wrong = fmt.Sprintf("want %s, got %s", kind(any(o.value)), kind(in))
	return nil
}

// kind names a value's type as TOML does.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case []string:
		return "a list of strings"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// or returns the value, or def where it is missing.
func (o opt[T]) or(def T) T {
	if o.set && o.wrong == "" {
		return o.value
	}
	return def
}

// pointer returns an integer that is set, else nil.
func (o opt[T]) pointer() *int {
	if n, ok := any(o.value).(int64); ok && o.set && o.wrong == "" {
		i := int(n)
		return &i
	}
	return nil
}

// pointerTo returns the value that is set, else nil.
func (o opt[T]) pointerTo() *T {
	if o.set && o.wrong == "" {
		return &o.value
	}
	return nil
}
