package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// mountByContext mounts with fsopen(2). supported is false where the kernel lacks it,
// or a container's filter refuses it.
func mountByContext(options []option, target string) (supported bool, err error) {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM), fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(ctx)
	for _, o := range append(options, option{"source", "valise"}) {
		if err := unix.FsconfigSetString(ctx, o.key, o.value); err != nil {
			return true, explain(ctx, fmt.Sprintf("option %s=%s", o.key, o.value), err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return true, explain(ctx, "create", err)
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return true, explain(ctx, "fsmount", err)
	}
	defer unix.Close(mnt)
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return true, fmt.Errorf("move_mount: %w", err)
	}
	return true, nil
}

// explain adds what the kernel said in the context's log, one message to a read, each
// with its level in front ("e overlay: …").
func explain(ctx int, step string, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for len(said) < 16 {
		n, readErr := unix.Read(ctx, buf)
		if readErr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[min(2, n):n])))
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %w", step, err)
	}
	return fmt.Errorf("%s: %w: %s", step, err, strings.Join(said, "; "))
}

// mountByString mounts with mount(2), of a kernel before 5.2.
func mountByString(options []option, target string) error {
	var parts []string
	for _, o := range options {
		parts = append(parts, o.key+"="+o.value)
	}
	if err := unix.Mount("valise", target, "overlay", unix.MS_NODEV, strings.Join(parts, ",")); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}
