package fusefs

import (
	"encoding/binary"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// acl is the attribute of an ACL with one named user, as the kernel stores it: a
// version, then entries of a tag, permissions and an id.
func acl(owner, user, group, mask, other uint16, uid uint32) []byte {
	le := binary.LittleEndian
	p := le.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{
		{0x01, owner, ^uint32(0)}, {0x02, user, uid}, {0x04, group, ^uint32(0)}, {0x10, mask, ^uint32(0)}, {0x20, other, ^uint32(0)},
	} {
		p = le.AppendUint32(le.AppendUint16(le.AppendUint16(p, e.tag), e.perm), e.id)
	}
	return p
}

// mayRead reports whether a user can read a file.
func mayRead(t *testing.T, uid uint32, path string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cat", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.Run() == nil
}

func TestACLsAreEnforced(t *testing.T) {
	p := newPlan()
	with := func(name, value string) func(e *tree.Entry) {
		return func(e *tree.Entry) {
			e.Xattrs = append(e.Xattrs, tree.Xattr{Name: name, Value: []byte(value)})
		}
	}
	access := "system.posix_acl_access"
	p.entry(0, "allowed", syscall.S_IFREG|0o640, with(access, string(acl(6, 4, 0, 4, 0, 2000))))
	p.entry(0, "denied", syscall.S_IFREG|0o644, with(access, string(acl(6, 0, 4, 4, 4, 2000))))
	p.entry(0, "plain", syscall.S_IFREG|0o600, nil)
	inherit := string(acl(7, 6, 0, 7, 0, 2000))
	p.entry(0, "dir", syscall.S_IFDIR|0o755, with("system.posix_acl_default", inherit))
	lower, _, s := mountPlan(t, p, nil)
	merged, upper := overlay(t, lower)
	open(t, lower, merged, upper)
	for _, dir := range []string{lower, merged} {
		for name, want := range map[string]map[uint32]bool{
			"allowed": {1000: true, 2000: true, 3000: false},
			"denied":  {1000: true, 2000: false, 3000: true},
			"plain":   {1000: true, 2000: false, 3000: false},
		} {
			for uid, want := range want {
				if got := mayRead(t, uid, dir+"/"+name); got != want {
					t.Errorf("%s: user %d may read: %t, want %t", name, uid, got, want)
				}
			}
		}
	}
	before := asked(s)["GETXATTR"]
	for range 10 {
		mayRead(t, 2000, merged+"/allowed")
	}
	if n := asked(s)["GETXATTR"] - before; n != 0 {
		t.Errorf("%d requests for ACLs that the kernel has", n)
	}

	if err := os.WriteFile(merged+"/dir/new", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 100)
	if n, err := unix.Lgetxattr(upper+"/dir/new", access, value); err != nil || string(value[:n]) != string(acl(6, 6, 0, 6, 0, 2000)) {
		t.Errorf("a new file's ACL: %v, %v", value[:max(n, 0)], err)
	}
	if err := os.Chmod(merged+"/allowed", 0o600); err != nil { // copies it up, with its ACL
		t.Fatal(err)
	}
	if n, err := unix.Lgetxattr(upper+"/allowed", access, value); err != nil || string(value[:n]) != string(acl(6, 4, 0, 0, 0, 2000)) {
		t.Errorf("the copied ACL: %v, %v", value[:max(n, 0)], err)
	}
}

func TestWithoutXattrsNobodyAsks(t *testing.T) {
	p := newPlan()
	p.file(0, "f", 10)
	lower, _, s := mountPlan(t, p, nil)
	merged, _ := overlay(t, lower)
	for range 3 {
		for _, path := range []string{lower + "/f", merged + "/f"} {
			for _, name := range []string{"security.capability", "user.x", "system.posix_acl_access"} {
				if _, err := unix.Lgetxattr(path, name, make([]byte, 10)); err != unix.EOPNOTSUPP && err != unix.ENODATA {
					t.Errorf("%s of %s: %v", name, path, err)
				}
			}
		}
	}
	if n := asked(s)["GETXATTR"]; n > 1 {
		t.Errorf("asked %d times", n)
	}
}
