package fusefs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// serveRole is a process that serves a mount until it ends:
//
//	mount DIR WHAT         sends the device through the socket that is descriptor 3
//	resume DIR WHAT INIT   has the device as descriptor 3
//
// It tells on its output when it serves, with the first request in hex, when a reader
// waits for content, and when it has ended. WHAT is "held", the plan of the tests below
// with content that does not come, "there", the same with content, or a tree's file.
func serveRole() error {
	mode, dir, what := os.Args[1], os.Args[2], os.Args[3]
	cfg, err := served(what)
	if err != nil {
		return err
	}
	var s *Server
	if mode == "mount" {
		if s, err = Mount(cfg, dir); err != nil {
			return err
		}
		device, err := s.Device()
		if err != nil {
			return err
		}
		if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(device.Fd())), nil, 0); err != nil {
			return err
		}
		if err := device.Close(); err != nil {
			return err
		}
	} else {
		init, err := hex.DecodeString(os.Args[4])
		if err != nil {
			return err
		}
		device := os.NewFile(3, "/dev/fuse")
		if s, err = Resume(cfg, dir, device, init); err != nil {
			return err
		}
		if err := device.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("serving %x\n", s.Init())
	err = s.Wait()
	fmt.Println("ended")
	return err
}

func served(what string) (Config, error) {
	if what != "held" && what != "there" {
		tr, err := tree.Map(what)
		return Config{Tree: tr}, err
	}
	p, blob := resumePlan()
	tr, err := p.Finish(func(tree.PackID) uint32 { return 1 << 20 })
	if what == "held" {
		p.content.hold(blob.Hash)
		go func() { // lives as long as the process
			for {
				p.content.mu.Lock()
				n, changed := p.content.waiting, p.content.changed
				p.content.mu.Unlock()
				fmt.Println("waiting", n)
				<-changed
			}
		}()
	}
	return Config{Tree: tr, Content: p.content, Generation: 3}, err
}

// resumePlan is a small tree and the block of its file "held".
func resumePlan() (*plan, tree.Blob) {
	p := newPlan()
	blob := p.file(0, "held", 5000)[0]
	p.file(0, "open", 3*mib)
	d := p.dir(0, "dir")
	p.file(d, "inside", 10)
	p.file(d, "later", 20)
	return p, blob
}

// serving is a process that serves a mount.
type serving struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	early []string
	init  string
}

func startServing(t *testing.T, third *os.File, args ...string) *serving {
	t.Helper()
	s := &serving{cmd: role(t, "serve", args...)}
	s.cmd.ExtraFiles = []*os.File{third}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	s.lines = bufio.NewScanner(out)
	s.init = strings.TrimPrefix(s.until(t, "serving "), "serving ")
	return s
}

// until returns the next line of output that begins with prefix. Lines that come before
// it can be asked for as well, unless they tell of an earlier state.
func (s *serving) until(t *testing.T, prefix string) string {
	t.Helper()
	for i, line := range s.early {
		if strings.HasPrefix(line, prefix) {
			s.early = s.early[i+1:]
			return line
		}
	}
	hang := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Signal(unix.SIGQUIT) })
	defer hang.Stop()
	for s.lines.Scan() {
		line := s.lines.Text()
		if !strings.HasPrefix(line, prefix) {
			s.early = append(s.early, line)
			continue
		}
		if prefix != "serving " {
			s.early = nil
		}
		return line
	}
	t.Fatalf("the server ended before it said %q", prefix)
	return ""
}

// mountInProcess mounts in a new process and returns the device.
func mountInProcess(t *testing.T, dir, what string) (*serving, *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // where the test failed before
	s := startServing(t, theirs, "mount", dir, what)
	theirs.Close()
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		t.Fatal(msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	device := os.NewFile(uintptr(fds[0]), "/dev/fuse")
	t.Cleanup(func() { device.Close() })
	return s, device
}

func (s *serving) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
}

// ends waits for the end of a server whose mount is taken away.
func (s *serving) ends(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	s.until(t, "ended")
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestANewProcessContinuesWhereOneDied(t *testing.T) {
	handled(t)
	p, blob := resumePlan()
	tr := p.finish(t)
	dir := t.TempDir()
	first, device := mountInProcess(t, dir, "held")

	open, err := os.Open(dir + "/open")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	// A shell with its working directory inside, which looks up names when it is told.
	shell := exec.CommandContext(t.Context(), "sh", "-c", "cd "+dir+"/dir && echo in && read x && cat later && ls .. && cat ../missing")
	var shellOut bytes.Buffer
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	// Two reads under way: one through the page cache, one that will be interrupted.
	read := make(chan []byte, 1)
	go func() {
		data, err := os.ReadFile(dir + "/held")
		if err != nil {
			t.Error(err)
		}
		read <- data
	}()
	thread, direct := make(chan int, 1), make(chan error, 1)
	go func() { direct <- directRead(dir+"/held", thread) }()
	first.until(t, "waiting 2")

	first.kill(t)
	stat := make(chan error, 1)
	go func() {
		_, err := os.Lstat(dir + "/dir/inside") // waits for the next process
		stat <- err
	}()

	second := startServing(t, device, "resume", dir, "held", first.init)
	if second.init != first.init {
		t.Error("the first request is another")
	}
	second.until(t, "waiting 2") // the same reads, sent again
	interrupted(t, <-thread, direct)
	second.until(t, "waiting 1")
	if err := <-stat; err != nil {
		t.Error(err)
	}
	second.kill(t)

	third := startServing(t, device, "resume", dir, "there", first.init)
	if data := <-read; !bytes.Equal(data, p.content.blocks[blob.Hash]) {
		t.Errorf("the read under way got %d other bytes", len(data))
	}
	n, _ := tr.LookupPath([]byte("open"))
	data := make([]byte, 3*mib)
	if _, err := open.ReadAt(data, 0); err != nil || !bytes.Equal(data, p.at(tr, n, 0, 3*mib)) {
		t.Error("the open file has other bytes,", err)
	}
	if _, err := io.WriteString(in, "go on\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&shellOut, out); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait()
	later, _ := tr.LookupPath([]byte("dir/later"))
	if want := string(p.at(tr, later, 0, 20)) + "dir\nheld\nopen\n"; shellOut.String() != want {
		t.Errorf("the shell inside read %q, want %q", shellOut.String(), want)
	}
	compare(t, p, tr, dir, nil)
	open.Close()
	third.ends(t, dir)

	init, err := hex.DecodeString(first.init)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(Config{Tree: tr, Content: p.content}, dir, device, init); !errors.Is(err, unix.ENODEV) {
		t.Errorf("after the end: got %v, want ENODEV", err)
	}
}

func TestResumeWantsTheFirstRequest(t *testing.T) {
	p := newPlan()
	p.file(0, "f", 10)
	dir, tr, s := mountPlan(t, p, nil)
	device, err := s.Device()
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	wrong := s.Init()
	wrong[40]++ // the protocol's major version
	before := descriptors(t)
	for _, init := range [][]byte{nil, {1, 2, 3}, wrong} {
		if _, err := Resume(Config{Tree: tr, Content: p.content}, dir, device, init); err == nil {
			t.Errorf("it resumed with % x", init)
		} else {
			t.Log(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
	if data, err := os.ReadFile(dir + "/f"); err != nil || len(data) != 10 {
		t.Error(data, err)
	}
}

// descriptors is how many are open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestMountOnNothing(t *testing.T) {
	p := newPlan()
	tr := p.finish(t)
	before := descriptors(t)
	if _, err := Mount(Config{Tree: tr, Content: p.content}, t.TempDir()+"/missing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
	patch, err := tree.NewBuilder(tree.Patch, tree.Entry{Attr: tree.Attr{Mode: 0o40755}}).Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Mount(Config{Tree: patch}, t.TempDir()); err == nil {
		t.Error("a patch was mounted")
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func TestTheEndIsTheLastMounts(t *testing.T) {
	p := newPlan()
	p.file(0, "f", 10)
	s, err := Mount(Config{Tree: p.finish(t), Content: p.content}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	merged, _ := overlay(t, s.dir)
	if err := s.Unmount(); err != nil {
		t.Fatal(err) // the overlay has a mount of its own
	}
	if data, err := os.ReadFile(merged + "/f"); err != nil || len(data) != 10 {
		t.Error(data, err)
	}
	select {
	case <-s.Done():
		t.Fatal("the connection ended under the overlay")
	default:
	}
	if err := unix.Unmount(merged, 0); err != nil {
		t.Fatal(err)
	}
	waitServer(t, s)
}

func TestAbortEndsHungReaders(t *testing.T) {
	const control = "/sys/fs/fuse/connections"
	if list, err := os.ReadDir(control); err != nil || len(list) == 0 {
		if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
			t.Skip("no fusectl:", err)
		}
		defer unix.Unmount(control, 0)
	}
	p := newPlan()
	release := p.content.hold(p.file(0, "f", 10)[0].Hash)
	defer release()
	dir := t.TempDir()
	s, err := Mount(Config{Tree: p.finish(t), Content: p.content}, dir)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(dir + "/f")
		read <- err
	}()
	p.content.untilWaiting(t, 1)
	if err := s.Abort(); err != nil {
		t.Error(err)
	}
	if err := <-read; err == nil {
		t.Error("the read got what is not there")
	}
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
	waitServer(t, s)
	p.content.untilWaiting(t, 0)
}
