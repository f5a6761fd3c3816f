package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// valise is what is measured, with its default settings.
type valise struct{}

func (valise) name() string { return "valise" }

func (valise) url(bucket, endpoint string) string {
	return fmt.Sprintf("s3://%s@%s/home/", bucket, endpoint)
}

func (v valise) seed(ctx context.Context, b *bench, c *corpus, bucket string) error {
	state := filepath.Join(b.dirs.work, "import")
	cmd := b.command(ctx, b.dirs.valise, "import", "--state-dir", state, c.tree, v.url(bucket, b.store.endpoint))
	return errors.Join(cmd.Run(), os.RemoveAll(state), v.holds(ctx, b, bucket, c.Files, c.Bytes))
}

func (v valise) command(b *bench, m *mount) (*exec.Cmd, error) {
	cmd := exec.Command(b.dirs.valise, "mount", "--state-dir", m.state, v.url(m.bucket, m.endpoint), m.dir)
	cmd.Env = os.Environ()
	return cmd, nil
}

func (v valise) durable(ctx context.Context, b *bench, m *mount, _ int, _ int64) error {
	return b.command(ctx, b.dirs.valise, "sync", m.dir).Run()
}

// holds checks that the newest snapshot has what it should.
func (v valise) holds(ctx context.Context, b *bench, bucket string, files int, bytes int64) error {
	out, err := b.command(ctx, b.dirs.valise, "snapshots", "--json", v.url(bucket, b.store.endpoint)).Output()
	if err != nil {
		return err
	}
	var list []struct{ Files, Size int64 }
	if err := json.Unmarshal(out, &list); err != nil {
		return err
	}
	if len(list) == 0 || list[0].Files < int64(files) || list[0].Size < bytes {
		return fmt.Errorf("the snapshots of %s: %s: want %d files, %d bytes", bucket, out, files, bytes)
	}
	return nil
}

// traffic is what a mount has sent and received so far.
type traffic struct{ Requests, Sent, Received int64 }

func (v valise) traffic(ctx context.Context, b *bench, m *mount) (traffic, error) {
	out, err := b.command(ctx, b.dirs.valise, "status", "--json", m.dir).Output()
	for try := 0; err != nil && try < 20; try++ { // the mount is there a moment before who tells of it
		time.Sleep(50 * time.Millisecond)
		out, err = b.command(ctx, b.dirs.valise, "status", "--json", m.dir).Output()
	}
	if err != nil {
		return traffic{}, err
	}
	var list []struct{ Traffic traffic }
	if err := json.Unmarshal(out, &list); err != nil {
		return traffic{}, err
	}
	if len(list) != 1 {
		return traffic{}, fmt.Errorf("status of %s: %s", m.dir, out)
	}
	return list[0].Traffic, nil
}

// quiet waits until a mount fetches nothing any more.
func (v valise) quiet(ctx context.Context, b *bench, m *mount) error {
	last, err := v.traffic(ctx, b, m)
	for same := 0; same < 8 && err == nil; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
		var now traffic
		now, err = v.traffic(ctx, b, m)
		if same++; now.Received != last.Received {
			same = 0
		}
		last = now
	}
	return err
}

// rclone mount, with a cache of whole files and writes that are sent after a second.
type rclone struct{}

func (rclone) name() string { return "rclone" }

func (rclone) env(endpoint string) []string {
	return append(os.Environ(), "RCLONE_CONFIG_STORE_TYPE=s3", "RCLONE_CONFIG_STORE_PROVIDER=Minio",
		"RCLONE_CONFIG_STORE_ENV_AUTH=true", "RCLONE_CONFIG_STORE_ENDPOINT="+endpoint)
}

// run lets rclone do something on the fast way.
func (r rclone) run(ctx context.Context, b *bench, args ...string) *exec.Cmd {
	cmd := b.command(ctx, filepath.Join(b.dirs.bin, "rclone"), append(args, "--config", "")...)
	cmd.Env = r.env(b.store.endpoint)
	return cmd
}

func (r rclone) seed(ctx context.Context, b *bench, c *corpus, bucket string) error {
	err := r.run(ctx, b, "copy", c.tree, "store:"+bucket, "--transfers", "16", "--no-traverse").Run()
	return errors.Join(err, r.holds(ctx, b, bucket, c.Files, c.Bytes))
}

func (r rclone) command(b *bench, m *mount) (*exec.Cmd, error) {
	cmd := exec.Command(filepath.Join(b.dirs.bin, "rclone"), "mount", "store:"+m.bucket, m.dir, "--config", "",
		"--cache-dir", filepath.Join(m.state, "cache"), "--vfs-cache-mode", "full", "--vfs-write-back", "1s",
		"--rc", "--rc-no-auth", "--rc-addr", "unix://"+r.socket(m))
	cmd.Env = r.env(m.endpoint)
	return cmd, nil
}

func (rclone) socket(m *mount) string { return filepath.Join(m.state, "rc") }

// durable waits until nothing is left to upload, and checks that all is there.
func (r rclone) durable(ctx context.Context, b *bench, m *mount, files int, bytes int64) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket(m))
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	for {
		var stats struct {
			DiskCache struct{ UploadsInProgress, UploadsQueued int }
		}
		if err := call(ctx, &http.Client{Transport: transport}, http.MethodPost, "http://rclone/vfs/stats", map[string]any{}, &stats); err != nil {
			return err
		}
		if stats.DiskCache.UploadsInProgress+stats.DiskCache.UploadsQueued == 0 {
			return r.holds(ctx, b, m.bucket, files, bytes)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r rclone) holds(ctx context.Context, b *bench, bucket string, files int, bytes int64) error {
	out, err := r.run(ctx, b, "size", "--json", "store:"+bucket).Output()
	if err != nil {
		return err
	}
	var is struct{ Count, Bytes int64 }
	if err := json.Unmarshal(out, &is); err != nil {
		return err
	}
	if is.Count != int64(files) || is.Bytes != bytes {
		return fmt.Errorf("bucket %s holds %s: want %d files, %d bytes", bucket, strings.TrimSpace(string(out)), files, bytes)
	}
	return nil
}

// s3fs writes a file through when it is closed.
type s3fs struct{}

func (s3fs) name() string { return "s3fs" }

func (s3fs) seed(ctx context.Context, b *bench, c *corpus, bucket string) error {
	return rclone{}.run(ctx, b, "copy", c.tree, "store:"+bucket, "--transfers", "16", "--no-traverse",
		"--s3-directory-markers", "--create-empty-src-dirs").Run()
}

func (s3fs) command(_ *bench, m *mount) (*exec.Cmd, error) {
	secret := filepath.Join(m.state, "password")
	text := os.Getenv("AWS_ACCESS_KEY_ID") + ":" + os.Getenv("AWS_SECRET_ACCESS_KEY") + "\n"
	if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cache := filepath.Join(m.state, "cache")
	if err := os.Mkdir(cache, 0o700); err != nil {
		return nil, err
	}
	return exec.Command("s3fs", m.bucket, m.dir, "-f", "-o", "passwd_file="+secret, "-o", "url="+m.endpoint,
		"-o", "use_path_request_style", "-o", "use_cache="+cache), nil
}

func (s3fs) durable(ctx context.Context, b *bench, m *mount, _ int, _ int64) error {
	return b.command(ctx, "sync", "-f", m.dir).Run()
}
