package session

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"valise/layer"
	"valise/store"
	"valise/store/storetest"
)

// Of what is imported the whole is known before the first block is: what is filtered does
// not count.
func TestImportTellsHowFarItIs(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 3 * store.BlockSize, "b": store.BlockSize / 2, "ignored": 100} {
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i>>10) | 1
		}
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	filter, err := layer.ParseFilter("ignored")
	must(t, err)
	var mu sync.Mutex // guards told
	var told []Progress
	_, _, err = Import(t.Context(), Config{Bucket: &storetest.Memory{}, URL: "s3://b/p/", Host: "a", Filter: filter}, dir, func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, p)
	})
	must(t, err)
	const whole = 3*store.BlockSize + store.BlockSize/2
	most := int64(0)
	for _, p := range told {
		if p.OfBytes != whole {
			t.Errorf("got %+v, want %d bytes in all", p, whole)
		}
		most = max(most, p.Bytes)
	}
	if len(told) < 4 || most != whole {
		t.Errorf("got %+v, want one for each block, up to the whole", told)
	}
}
