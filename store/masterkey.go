package store

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MasterKey is an operator's key, which wraps the data keys of profiles.
type MasterKey struct {
	Name string
	key  func() [keySize]byte // fmt shows no more of it than an address
}

// MasterKeys are those of one file: the first wraps, all unwrap.
type MasterKeys []MasterKey

const keySize = 32

var keyName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// ParseMasterKeys reads a master key file: on each line the name of a key and its 32 bytes
// in base64. The first is the one in use, the others are former ones, for profiles that
// were not wrapped anew yet. # begins a comment.
func ParseMasterKeys(data []byte) (MasterKeys, error) {
	var keys MasterKeys
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		k, err := parseMasterKey(fields)
		if err == nil && slices.ContainsFunc(keys, func(o MasterKey) bool { return o.Name == k.Name }) {
			err = fmt.Errorf("the name %q stands there twice", k.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("master keys, line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("master keys: %w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("master keys: there is none: want lines of a NAME and 32 bytes in base64")
	}
	return keys, nil
}

// parseMasterKey never repeats what may be the key.
func parseMasterKey(fields []string) (k MasterKey, err error) {
	if len(fields) != 2 || !keyName.MatchString(fields[0]) {
		return k, errors.New("want a NAME of a-z, 0-9 and -, a space, and 32 bytes in base64")
	}
	k.Name = fields[0]
	raw, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return k, fmt.Errorf("key %q is not base64", k.Name)
	}
	if len(raw) != keySize {
		return k, fmt.Errorf("key %q has %d bytes, want %d", k.Name, len(raw), keySize)
	}
	key := [keySize]byte(raw)
	k.key = func() [keySize]byte { return key }
	if key == [keySize]byte{} {
		return k, fmt.Errorf("key %q is all zeros", k.Name)
	}
	return k, nil
}

// String names the key and does not show it.
func (k MasterKey) String() string { return "master key " + k.Name }

func (k MasterKeys) find(name string) (MasterKey, bool) {
	i := slices.IndexFunc(k, func(o MasterKey) bool { return o.Name == name })
	if i < 0 {
		return MasterKey{}, false
	}
	return k[i], true
}
