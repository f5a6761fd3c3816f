package profile

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
)

// The container's environment variables that change one launch.
const (
	EnvSizeLimit = "KASM_PROFILE_SIZE_LIMIT" // KB
	EnvFilter    = "KASM_PROFILE_FILTER"     // comma-separated globs
)

// maxSize keeps sums of sizes within an int64.
const maxSize = 1 << 60

// ParseSize reads a size of the configuration: a number of bytes, or one with a unit
// ("20g", "500m", "1.5GiB"); units are powers of 1,024. 0 with any unit is "no limit".
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 || n > maxSize {
		return 0, fmt.Errorf("size %q is not a number with an optional unit such as 500m or 20g", s)
	}
	return n, nil
}

// ParseLaunchLimit reads EnvSizeLimit: whole KB of 1,000 bytes (2000000 = 2 GB), ""
// and 0 are "no limit".
func ParseLaunchLimit(kb string) (int64, error) {
	if kb == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(kb, 10, 64)
	if err != nil || n < 0 || n > maxSize/1000 {
		return 0, fmt.Errorf("%s=%q is not a whole number of KB", EnvSizeLimit, kb)
	}
	return n * 1000, nil
}

// Fill says how full a profile is against its limit.
type Fill string

// The states of a profile against its limit. The user is warned above Near.
const (
	Fits Fill = "fits"
	Near Fill = "above 90 % of the limit"
	Over Fill = "over the limit"
)

// Judge compares usage and limit in bytes; a limit of 0 fits everything.
func Judge(usage, limit int64) Fill {
	switch {
	case limit <= 0 || usage <= limit/10*9:
		return Fits
	case usage <= limit:
		return Near
	default:
		return Over
	}
}
