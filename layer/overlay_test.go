package layer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dirsIn makes the directories of a Stack below dir.
func dirsIn(t *testing.T, dir string) Stack {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	s := Stack{Lower: dir + "/lower", Upper: dir + "/upper", Work: dir + "/work", Target: dir + "/merged"}
	for _, d := range []string{s.Lower, s.Upper, s.Work, s.Target} {
		must(t, os.MkdirAll(d, 0o755))
	}
	return s
}

func TestMountOnAnyPath(t *testing.T) {
	for _, name := range []string{
		"plain", "a space", "a:colon", "a,comma", `a\backslash`, `all: of,them \, \:\\ "`, "new\nline\ttab", "ümläut\xff",
		strings.Repeat("long", 60), // with the rest longer than fsconfig takes
	} {
		for how, mount := range map[string]func(Stack) error{"fsopen": Stack.Mount, "mount": mountOld} {
			t.Run(how+" "+name, func(t *testing.T) {
				s := dirsIn(t, filepath.Join(t.TempDir(), name))
				write(t, s.Lower+"/file", "lower")
				must(t, mount(s))
				defer s.Detach()
				write(t, s.Target+"/file", "upper")
				if data, err := os.ReadFile(s.Upper + "/file"); err != nil || string(data) != "upper" {
					t.Errorf("upper has %q, %v", data, err)
				}
				must(t, s.Unmount())
				if _, err := os.Stat(s.Target + "/file"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("it is still mounted: %v", err)
				}
			})
		}
	}
}

// mountOld mounts as on a kernel without fsopen(2).
func mountOld(s Stack) error {
	var n names
	defer n.close()
	options := fixed[:len(fixed):len(fixed)]
	for _, o := range [...]option{{"lowerdir", s.Lower}, {"upperdir", s.Upper}, {"workdir", s.Work}} {
		value, err := n.plain(o.value)
		if err != nil {
			return err
		}
		options = append(options, option{o.key, value})
	}
	return mountByString(options, s.Target)
}

func TestMountErrorsSayWhatToDo(t *testing.T) {
	s := dirsIn(t, t.TempDir())
	must(t, s.Mount())
	defer s.Detach()
	over := dirsIn(t, s.Target)
	if err := over.Mount(); err == nil || !strings.Contains(err.Error(), "a local file system such as ext4 or xfs") {
		t.Errorf("upper on an overlay: got %v", err)
		_ = over.Detach()
	}
	missing := s
	missing.Target, missing.Lower = t.TempDir(), s.Lower+"/missing"
	if err := missing.Mount(); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("no lower: got %v", err)
	}
	if _, err := mountByContext([]option{{"xino", "nonsense"}}, s.Target); err == nil || !strings.Contains(err.Error(), "Bad value") {
		t.Errorf("a wrong option: got %v, want what the kernel says", err)
	}
	if err := (Stack{}).Mount(); err == nil {
		t.Error("a stack without directories was mounted")
	}
}

func TestUnmountOfABusyHome(t *testing.T) {
	s := dirsIn(t, t.TempDir())
	must(t, s.Mount())
	f, err := os.Create(s.Target + "/open")
	must(t, err)
	if err := s.Unmount(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount: got %v, want EBUSY", err)
	}
	must(t, s.Detach())
	_, err = f.WriteString("still written")
	must(t, errors.Join(err, f.Close()))
	if data, err := os.ReadFile(s.Upper + "/open"); string(data) != "still written" {
		t.Errorf("upper has %q, %v", data, err)
	}
	if err := s.Unmount(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmount of what is not mounted: got %v, want EINVAL", err)
	}
}

func TestDeviceNodesDoNotWork(t *testing.T) {
	s := dirsIn(t, t.TempDir())
	must(t, s.Mount())
	defer s.Detach()
	must(t, unix.Mknod(s.Target+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	if f, err := os.Open(s.Target + "/null"); !errors.Is(err, unix.EACCES) {
		t.Errorf("open: got %v, want EACCES", err)
		_ = f.Close()
	}
}

// What users of a home see of overlayfs, as the package's comment says.
func TestDeparturesOfOverlayfs(t *testing.T) {
	s := dirsIn(t, t.TempDir())
	write(t, s.Lower+"/one", "before")
	must(t, os.Link(s.Lower+"/one", s.Lower+"/two"))
	long := s.Lower
	for range 3 {
		long += "/" + strings.Repeat("d", 100)
	}
	must(t, os.MkdirAll(long+"/last", 0o755))
	must(t, s.Mount())
	defer s.Detach()

	write(t, s.Target+"/one", "after")
	if data, err := os.ReadFile(s.Target + "/two"); string(data) != "before" {
		t.Errorf("the other name of a lower file: got %q, %v; the names stay together now", data, err)
	}
	long = s.Target + strings.TrimPrefix(long, s.Lower)
	if err := os.Rename(long+"/last", s.Target+"/moved"); !errors.Is(err, unix.EXDEV) {
		t.Errorf("rename of a directory with a long path: got %v, want EXDEV", err)
	}
	if err := os.Rename(long+"/last", long+"/beside"); err != nil {
		t.Errorf("rename beside: %v", err)
	}
}

func TestAttributesAloneAreNotCopiedUp(t *testing.T) {
	s := dirsIn(t, t.TempDir())
	write(t, s.Lower+"/big", strings.Repeat("x", 1<<20))
	must(t, s.Mount())
	defer s.Detach()
	must(t, os.Chmod(s.Target+"/big", 0o600))
	var st unix.Stat_t
	must(t, unix.Stat(s.Upper+"/big", &st))
	if st.Blocks > 16 {
		t.Errorf("upper has %d blocks of it", st.Blocks)
	}
}

func TestCheckUpper(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("trusted extended attributes need root")
	}
	if err := CheckUpper(dir); err != nil {
		t.Errorf("%s: %v", dir, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	if err := CheckUpper(dir + "/missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: got %v", err)
	}
}
