package proxy

import "fmt"

// document is a decoded create: strict decoding has given known members their exact
// names and checked their types, so what is missing or null is simply empty here.
type document map[string]any

func (d document) text(name string) string {
	s, _ := d[name].(string)
	return s
}

func (d document) list(name string) []any {
	l, _ := d[name].([]any)
	return l
}

func (d document) object(name string) document {
	o, _ := d[name].(map[string]any)
	return o
}

// texts is a list of strings.
func (d document) texts(name string) []string {
	var out []string
	for _, v := range d.list(name) {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// strings is an object of strings, such as Labels.
func (d document) strings(name string) map[string]string {
	out := map[string]string{}
	for k, v := range d.object(name) {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

// ensure returns the member object name and makes it where it is missing or null.
func (d document) ensure(name string) document {
	if o := d.object(name); o != nil {
		return o
	}
	o := map[string]any{}
	d[name] = o
	return o
}

// String keeps a document out of logs: its environment may hold secrets.
func (d document) String() string { return fmt.Sprintf("document of %d members", len(d)) }
