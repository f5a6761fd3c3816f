package quota

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

func TestSizesOfTheKernel(t *testing.T) {
	for name, sizes := range map[string][2]uintptr{
		"struct if_dqblk":       {unsafe.Sizeof(block{}), 72},
		"struct fs_quota_statv": {unsafe.Sizeof(state{}), 160},
		"struct fsxattr":        {unsafe.Sizeof(attributes{}), 28},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("%s: %d bytes, want %d", name, sizes[0], sizes[1])
		}
	}
}

func TestUnsupported(t *testing.T) {
	err := Check("/proc")
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("got %v, want %v that names the directory", err, ErrUnsupported)
	}
}
