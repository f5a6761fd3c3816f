package layer

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Stack is an overlay mount: what its directories are called. Work must be an empty
// directory, or one that only earlier mounts used, on the file system of Upper.
type Stack struct{ Lower, Upper, Work, Target string }

// option is a parameter of the mount.
type option struct{ key, value string }

// fixed are the parameters that do not depend on the directories. redirect_dir lets a
// directory of the lower be renamed, metacopy lets its attributes be changed without a
// copy of the content. index=on would keep the names of a file together, but makes
// upper depend on file handles of its lower, which is another one after a restart.
var fixed = [...]option{{"redirect_dir", "on"}, {"index", "off"}, {"metacopy", "on"}, {"xino", "auto"}}

// Mount mounts the stack on Target. Device nodes in it do not work.
func (s Stack) Mount() error {
	err := s.mount()
	if err == nil {
		return nil
	}
	if why := CheckUpper(s.Work); why != nil { // on Upper's file system, but not the home
		return fmt.Errorf("mount overlay on %s: %w (%w)", s.Target, err, why)
	}
	return fmt.Errorf("mount overlay on %s: %w", s.Target, err)
}

func (s Stack) mount() error {
	var n names
	defer n.close()
	layers := [...]option{{"lowerdir", s.Lower}, {"upperdir", s.Upper}, {"workdir", s.Work}}
	for i := range layers {
		var err error
		if layers[i].value, err = n.plain(layers[i].value); err != nil {
			return err
		}
	}
	options := append(fixed[:len(fixed):len(fixed)], layers[:]...)
	supported, err := mountByContext(options, s.Target)
	if supported {
		return err
	}
	return mountByString(options, s.Target)
}

// Unmount unmounts the stack. It is unix.EBUSY while a process uses it.
func (s Stack) Unmount() error { return s.unmount(unix.UMOUNT_NOFOLLOW) }

// Detach takes the stack from Target at once, even while processes use it; what they
// have open there works on. It is no promise that they have stopped writing.
func (s Stack) Detach() error { return s.unmount(unix.UMOUNT_NOFOLLOW | unix.MNT_DETACH) }

func (s Stack) unmount(flags int) error {
	if err := unix.Unmount(s.Target, flags); err != nil {
		return fmt.Errorf("unmount %s: %w", s.Target, err)
	}
	return nil
}

// names gives the directories names that need no escapes. Which of them overlayfs wants
// depends on the kernel, on the option and on the system call.
type names struct{ open []*os.File }

// maxValue is the longest value that fsconfig(2) takes.
const maxValue = 255

// plain returns path itself where that has nothing special, and else a name of the same
// directory by way of a descriptor that stays open until close.
func (n *names) plain(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("a directory of the overlay has no name")
	}
	if len(path) <= maxValue && !strings.ContainsAny(path, `\:,"' `+"\t\n") {
		return path, nil
	}
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	n.open = append(n.open, f)
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

func (n *names) close() {
	for _, f := range n.open {
		_ = f.Close()
	}
}
