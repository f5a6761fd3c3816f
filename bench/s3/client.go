package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// client is a way to have a home on S3.
type client interface {
	name() string
	// seed puts a corpus into an empty bucket, the fast way.
	seed(ctx context.Context, b *bench, c *corpus, bucket string) error
	// command mounts a bucket.
	command(b *bench, m *mount) (*exec.Cmd, error)
	// durable returns when everything written to m, files of so many bytes in all, is
	// on S3.
	durable(ctx context.Context, b *bench, m *mount, files int, bytes int64) error
}

// mount is a mounted bucket.
type mount struct {
	client   client
	bucket   string
	endpoint string // of the store, through a link or not
	dir      string
	state    string // a directory for what the client keeps
	cmd      *exec.Cmd
	log      string
	began    time.Time
	readyIn  time.Duration // from the start of the command until dir answered
	ended    chan struct{} // closed when the command has ended
	err      error         // of the command
	unwatch  func() bool   // see mountBucket
}

// bucket makes one. MinIO takes a directory of its data for one.
func (b *bench) bucket(of string) (string, error) {
	b.made++
	name := fmt.Sprintf("%s-%03d", of, b.made)
	return name, os.Mkdir(filepath.Join(b.store.data, name), 0o755)
}

// seeded returns a bucket that has the corpus in the form of the client. Nobody writes
// to it but what is undone.
func (b *bench) seeded(ctx context.Context, c client, of *corpus) (string, error) {
	key := c.name() + " " + of.Name
	if bucket := b.seeds[key]; bucket != "" {
		return bucket, nil
	}
	bucket, err := b.bucket(c.name())
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := c.seed(ctx, b, of, bucket); err != nil {
		return "", fmt.Errorf("put corpus %s there for %s: %w", of.Name, c.name(), err)
	}
	b.say("corpus %s is on S3 for %s, %.1f s", of.Name, c.name(), time.Since(began).Seconds())
	b.seeds[key] = bucket
	return bucket, nil
}

// mountBucket mounts with a state directory that is new, and returns when dir answers.
func (b *bench) mountBucket(ctx context.Context, c client, bucket, endpoint string) (*mount, error) {
	b.made++
	top := filepath.Join(b.dirs.work, fmt.Sprintf("m%03d", b.made))
	m := &mount{
		client: c, bucket: bucket, endpoint: endpoint, dir: filepath.Join(top, "home"), state: filepath.Join(top, "state"),
		log: top + ".log", ended: make(chan struct{}),
	}
	for _, dir := range []string{m.dir, m.state} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if m.cmd, err = c.command(b, m); err != nil {
		return nil, err
	}
	m.began = time.Now()
	if err := b.spawnLogged(m.cmd, m.log); err != nil {
		return nil, err
	}
	b.mounts = append(b.mounts, m)
	go func() {
		m.err = m.cmd.Wait()
		close(m.ended)
	}()
	// Who waits for an answer of the mount cannot be ended before it is.
	m.unwatch = context.AfterFunc(ctx, func() { _ = m.end(killedWithin) })
	if err := m.wait(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("mount with %s: %w%s", c.name(), err, tail(m.log)), b.discard(m))
	}
	return m, nil
}

func (m *mount) wait(ctx context.Context) error {
	var above, here syscall.Stat_t
	if err := syscall.Stat(filepath.Dir(m.dir), &above); err != nil {
		return err
	}
	for {
		if err := syscall.Stat(m.dir, &here); err == nil && here.Dev != above.Dev {
			m.readyIn = time.Since(m.began)
			return nil
		}
		select {
		case <-m.ended:
			return fmt.Errorf("it ended: %w", m.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (m *mount) pids() []int { return family(m.cmd.Process.Pid) }

const (
	endsWithin   = 10 * time.Minute // a client that saves
	killedWithin = 20 * time.Second // one whose work is of no use any more
)

// end tells a client to unmount and to end, and sees to it.
func (m *mount) end(within time.Duration) (err error) {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.ended:
		return nil
	case <-time.After(within):
		err = fmt.Errorf("%s does not end", m.client.name())
	}
	for _, pid := range m.pids() { // who watches comes before who is watched
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-m.ended
	return err
}

// close unmounts as one does by hand, and forgets what the client kept.
func (b *bench) close(m *mount) error {
	err := m.end(endsWithin)
	if m.err != nil && err == nil && m.client.name() == "valise" {
		err = fmt.Errorf("%s ended with %w%s", m.client.name(), m.err, tail(m.log))
	}
	return errors.Join(err, b.discard(m))
}

// discard ends a mount that may be in any state, and removes its directories.
func (b *bench) discard(m *mount) error {
	i := slices.Index(b.mounts, m)
	if i < 0 {
		return nil
	}
	b.mounts = slices.Delete(b.mounts, i, i+1)
	m.unwatch()
	_ = m.end(killedWithin)
	top := filepath.Dir(m.dir)
	if err := unmountBelow(top); err != nil {
		return err
	}
	return os.RemoveAll(top)
}

// endRow ends what a row left: mounts that it used to the end, and directories.
func (b *bench) endRow(orderly bool) error {
	var errs []error
	for _, m := range slices.Clone(b.mounts) {
		if orderly {
			errs = append(errs, b.close(m))
		} else {
			errs = append(errs, b.discard(m))
		}
	}
	for _, h := range b.hosts {
		errs = append(errs, h.close())
	}
	b.hosts = nil
	for _, dir := range b.trash {
		errs = append(errs, os.RemoveAll(dir))
	}
	b.trash = nil
	return errors.Join(errs...)
}

// unmountBelow unmounts everything below a directory, the latest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(string(data)))
	for _, line := range slices.Backward(lines) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", at, err)
			}
		}
	}
	return nil
}

// spawn starts a program that is ended with the context of its command.
func (b *bench) spawn(cmd *exec.Cmd, log string) error {
	if err := b.spawnLogged(cmd, filepath.Join(b.dirs.work, log)); err != nil {
		return err
	}
	b.servers.Go(func() { _ = cmd.Wait() })
	return nil
}

// spawnLogged starts a program out of reach of the terminal's Ctrl-C.
func (b *bench) spawnLogged(cmd *exec.Cmd, log string) error {
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return errors.Join(cmd.Start(), f.Close())
}

// tail is the end of a log, to append to an error.
func tail(log string) string {
	data, err := os.ReadFile(log)
	data = bytes.TrimSpace(data)
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\n" + string(data[max(0, len(data)-2000):])
}

// command is a program that ends with ctx, and whose complaints are seen.
func (b *bench) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = os.Environ()
	cmd.Stderr = os.Stderr
	return cmd
}
