package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
)

// maxDepth bounds how deep a body nests. Docker's own go some six levels deep.
const maxDepth = 100

// checkContentType refuses what dockerd would not read as JSON.
func checkContentType(h http.Header) error {
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return faultf(http.StatusBadRequest, "want one Content-Type header, application/json, got %d", len(values))
	}
	kind, _, err := mime.ParseMediaType(values[0])
	if err != nil {
		return faultf(http.StatusBadRequest, "malformed Content-Type header %q: %v", values[0], err)
	}
	if kind != "application/json" {
		return faultf(http.StatusBadRequest, "unsupported Content-Type %q: want application/json", values[0])
	}
	return nil
}

// A strictDecoder reads bodies that the daemon decodes into a value of one type. It is
// safe for concurrent use.
type strictDecoder struct {
	as     reflect.Type
	shapes map[reflect.Type]shape // of as and of all that it holds
}

func newStrictDecoder(as reflect.Type) *strictDecoder {
	s := &strictDecoder{as: as, shapes: map[reflect.Type]shape{}}
	addShapes(s.shapes, as)
	return s
}

// decode reads a JSON object of at most limit bytes. It returns the object with numbers
// kept as they are written (json.Number), and with the members of every struct under
// the names that encoding/json gives to its fields.
//
// encoding/json takes a member for a field whatever its case, "HoſtConfig" for
// HostConfig, and lets the last one win, or merges them. Here members of one struct
// that fold together are refused; those of a map are refused when they are equal.
// Members that the struct does not know are kept.
func (s *strictDecoder) decode(body io.Reader, limit int64) (map[string]any, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "read the body: %v", err)
	}
	if int64(len(data)) > limit {
		return nil, faultf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", limit)
	}
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return nil, faultf(http.StatusBadRequest, "the body is empty, want a JSON object")
	}
	var raw json.RawMessage // the whole of the body's syntax, trailing data included
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, faultf(http.StatusBadRequest, "the body is no JSON document: %v", err)
	}
	d := treeDecoder{json.NewDecoder(bytes.NewReader(data)), s.shapes}
	d.UseNumber()
	value, err := d.value(s.as, nil)
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "body: %v", err)
	}
	tree, ok := value.(map[string]any)
	if !ok {
		return nil, faultf(http.StatusBadRequest, "body: want object, got %s", jsonKind(value))
	}
	return tree, checkTypes(tree, s.as)
}

// A treeDecoder reads a document that is known to be well formed, token by token.
type treeDecoder struct {
	*json.Decoder
	shapes map[reflect.Type]shape
}

// value reads the next value. The type it will be decoded into is as, nil if unknown;
// path is where it stands.
func (d treeDecoder) value(as reflect.Type, path *memberPath) (any, error) {
	if path.depth() > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return d.object(d.shapes[as], path)
	case json.Delim('['):
		return d.array(d.shapes[as], path)
	}
	return token, nil
}

func (d treeDecoder) array(as shape, path *memberPath) (any, error) {
	list := []any{}
	for d.More() {
		v, err := d.value(as.item, path.at("["+strconv.Itoa(len(list))+"]"))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func (d treeDecoder) object(as shape, path *memberPath) (any, error) {
	object := map[string]any{}
	given := map[string]string{} // key of a name → the name as it was given
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the syntax allows nothing else
		canonical, key, member := as.member(name)
		if first, ok := given[key]; ok {
			if first == name {
				return nil, fmt.Errorf("member %q is given twice", path.at(canonical))
			}
			return nil, fmt.Errorf("member %q is given twice (%q and %q)", path.at(canonical), first, name)
		}
		given[key] = name
		if object[canonical], err = d.value(member, path.at(canonical)); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

// checkTypes tells early, and with the member's path, what the daemon would refuse.
func checkTypes(tree map[string]any, as reflect.Type) error {
	data, err := json.Marshal(tree)
	if err != nil {
		return faultf(http.StatusBadRequest, "body: %v", err)
	}
	err = json.Unmarshal(data, reflect.New(as).Interface())
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return faultf(http.StatusBadRequest, "%s: want %s, got %s", fieldPath(as, mismatch.Field), wanted(mismatch.Type), mismatch.Value)
	}
	if err != nil {
		return faultf(http.StatusBadRequest, "body: %v", err)
	}
	return nil
}
