package fusefs

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// bound shortens patience so that a read ends before the kernel's limit, at which it
// would end the whole connection. A limit of 0 is none.
func bound(patience, limit time.Duration) time.Duration {
	if limit == 0 {
		return patience
	}
	limit -= limit / 4 // a request's age counts from before it was sent
	if patience == 0 {
		return limit
	}
	return min(patience, limit)
}

// requestLimit is how long a request may last on this machine before the kernel ends
// the connection; 0 is for ever. Linux 6.14 brought it, off by default.
func requestLimit() time.Duration {
	return limitOf(sysctl("default_request_timeout"), sysctl("max_request_timeout"))
}

// limitOf does what fs/fuse/inode.c:init_server_timeout does for a server that asks for
// no limit.
func limitOf(byDefault, most time.Duration) time.Duration {
	const least = 15 * time.Second // the kernel looks no more often
	limit := byDefault
	if most > 0 && (limit == 0 || most < limit) {
		limit = most
	}
	if limit == 0 {
		return 0
	}
	return max(limit, least)
}

// sysctl reads a number of seconds from fs.fuse; what is not there is 0.
func sysctl(name string) time.Duration {
	data, err := os.ReadFile("/proc/sys/fs/fuse/" + name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
