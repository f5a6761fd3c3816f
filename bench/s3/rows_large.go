package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// untarLarge: 20,000 files onto the local disk.
func (b *bench) untarLarge(ctx context.Context) error {
	c, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	alone := b.measure(fmt.Sprintf("untar %d files, no sync", c.Files), "s")
	durable := b.measure("… until durable on S3", "s")
	defer alone.timesOf("ext4", 3.5)
	for range b.runs { // in turn, so that what else the machine does falls on both
		if err := b.untarTo(ctx, valise{}, c, alone, durable); err != nil {
			return err
		}
		if err := b.untarLocal(ctx, c, alone, durable); err != nil {
			return err
		}
	}
	for _, client := range b.clients("rclone")[1:] {
		if err := b.untarTo(ctx, client, c, alone, nil); err != nil {
			return err
		}
	}
	return nil
}

// search is grep for what is nowhere.
func (b *bench) search(ctx context.Context, dir string) (time.Duration, error) {
	began := time.Now()
	err := b.command(ctx, "grep", "-r", "a word that no file has: "+"valise's bench", dir).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	} else if err == nil {
		err = errors.New("grep found it")
	}
	return time.Since(began), err
}

// grep: search 20,000 files again.
func (b *bench) grep(ctx context.Context) error {
	c, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	first := b.measure(fmt.Sprintf("first `grep -r` over %d lower files", c.Files), "s")
	again := b.measure("second `grep -r`", "s")
	asked := b.measure("… FUSE requests", "")
	defer again.timesOf("ext4", 1.4)
	defer asked.atMost(0)
	bucket, err := b.seeded(ctx, valise{}, c)
	if err != nil {
		return err
	}
	m, err := b.mountCold(ctx, valise{}, bucket, b.delayed.endpoint())
	if err != nil {
		return err
	}
	took, err := b.search(ctx, m.dir)
	if err != nil {
		return err
	}
	first.add("valise", took.Seconds())
	if err := (valise{}).quiet(ctx, b, m); err != nil {
		return err
	}
	if took, err = b.search(ctx, c.tree); err != nil {
		return err
	}
	first.add("ext4", took.Seconds())
	first.note("rclone without latency")
	for range b.runs {
		if took, err = b.searchWatched(ctx, m, asked); err != nil {
			return err
		}
		again.add("valise", took.Seconds())
		if took, err = b.search(ctx, c.tree); err != nil {
			return err
		}
		again.add("ext4", took.Seconds())
	}
	if err := b.close(m); err != nil {
		return err
	}
	for _, client := range b.clients("rclone")[1:] {
		if bucket, err = b.seeded(ctx, client, c); err != nil {
			return err
		}
		if m, err = b.mountCold(ctx, client, bucket, b.store.endpoint); err != nil {
			return err
		}
		for _, into := range []*measure{first, again} {
			if took, err = b.search(ctx, m.dir); err != nil {
				return err
			}
			into.add(client.name(), took.Seconds())
		}
		if err := b.close(m); err != nil {
			return err
		}
	}
	return nil
}

// searchWatched searches and counts what the kernel asks the mount meanwhile.
func (b *bench) searchWatched(ctx context.Context, m *mount, asked *measure) (time.Duration, error) {
	watch, err := b.watchFUSE(filepath.Dir(m.dir))
	if err != nil {
		return 0, err
	}
	took, err := b.search(ctx, m.dir)
	if watch == nil {
		asked.note("this kernel does not tell")
		return took, err
	}
	n, kinds, countErr := watch.count()
	if err := errors.Join(err, countErr, watch.stop()); err != nil {
		return 0, err
	}
	asked.add("valise", float64(n))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		b.say("  %s: %d", kind, kinds[kind])
	}
	return took, nil
}

// append: one byte more in a file of 1 GiB.
func (b *bench) append(ctx context.Context) error {
	c, err := b.corpus(ctx, "big")
	if err != nil {
		return err
	}
	sent := b.measure("append 1 byte to 1 GiB: bytes sent", "MB")
	wrote := b.measure("… the write", "s")
	synced := b.measure("… sync", "s")
	defer sent.atMost(1 << 20 / 1e6)
	bucket, err := b.seeded(ctx, valise{}, c)
	if err != nil {
		return err
	}
	m, err := b.mountCold(ctx, valise{}, bucket, b.recorded.endpoint())
	if err != nil {
		return err
	}
	before, err := valise{}.traffic(ctx, b, m)
	if err != nil {
		return err
	}
	began := time.Now()
	f, err := os.OpenFile(filepath.Join(m.dir, c.First), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("!"); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	wrote.add("valise", time.Since(began).Seconds())
	began = time.Now()
	if err := (valise{}).durable(ctx, b, m, 0, 0); err != nil {
		return err
	}
	synced.add("valise", time.Since(began).Seconds())
	after, err := valise{}.traffic(ctx, b, m)
	if err != nil {
		return err
	}
	sent.add("valise", float64(after.Sent-before.Sent)/1e6)
	for _, q := range b.recorder.during(began, time.Now()) {
		if q.sent > 0 {
			b.say("  %s: %d bytes", q.what, q.sent)
		}
	}
	delete(b.seeds, "valise big")
	return errors.Join(b.close(m), valise{}.holds(ctx, b, bucket, c.Files, c.Bytes+1))
}

// unchanged: save 20,000 files that are saved.
func (b *bench) unchanged(ctx context.Context) error {
	c, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	bucket, err := b.bucket("valise")
	if err != nil {
		return err
	}
	m, err := b.mountBucket(ctx, valise{}, bucket, b.recorded.endpoint())
	if err != nil {
		return err
	}
	if err := b.unpack(ctx, c, m.dir); err != nil {
		return err
	}
	if err := (valise{}).durable(ctx, b, m, 0, 0); err != nil {
		return err
	}
	if err := b.saveUnchanged(ctx, m, fmt.Sprintf("save of %d unchanged files above", c.Files)); err != nil {
		return err
	}
	if err := b.close(m); err != nil {
		return err
	}
	if bucket, err = b.seeded(ctx, valise{}, c); err != nil {
		return err
	}
	if m, err = b.mountCold(ctx, valise{}, bucket, b.recorded.endpoint()); err != nil {
		return err
	}
	if err := (valise{}).quiet(ctx, b, m); err != nil {
		return err
	}
	if err := b.saveUnchanged(ctx, m, fmt.Sprintf("save of %d unchanged files below", c.Files)); err != nil {
		return err
	}
	return b.close(m)
}

func (b *bench) saveUnchanged(ctx context.Context, m *mount, what string) error {
	took := b.measure(what, "s")
	requests := b.measure("… requests", "")
	defer took.atMost(0.5)
	defer requests.atMost(3)
	for range max(3, b.runs) {
		before, err := valise{}.traffic(ctx, b, m)
		if err != nil {
			return err
		}
		began, computed := time.Now(), cpuTime(m.pids())
		if err := (valise{}).durable(ctx, b, m, 0, 0); err != nil {
			return err
		}
		until := time.Now()
		took.add("valise", until.Sub(began).Seconds())
		b.say("  %.2f s of processor time", cpuTime(m.pids())-computed)
		after, err := valise{}.traffic(ctx, b, m)
		if err != nil {
			return err
		}
		requests.add("valise", float64(after.Requests-before.Requests))
		if seen := b.recorder.during(began, until); len(seen) > 0 {
			requests.note("%s", names(seen))
		}
	}
	return nil
}

// memory: what a mount has in memory.
func (b *bench) memory(ctx context.Context) error {
	large, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	what := fmt.Sprintf("memory after find and read of %d files", large.Files)
	if err := b.memoryAfter(ctx, what, 60, func(client client) (*mount, error) {
		bucket, err := b.seeded(ctx, client, large)
		if err != nil {
			return nil, err
		}
		endpoint := b.delayed.endpoint()
		if client.name() != "valise" {
			endpoint = b.store.endpoint // it would take too long
		}
		m, err := b.mountCold(ctx, client, bucket, endpoint)
		if err != nil {
			return nil, err
		}
		return m, errors.Join(b.list(ctx, large, m.dir), b.readAll(ctx, large, m.dir))
	}); err != nil {
		return err
	}
	many, err := b.corpus(ctx, "many")
	if err != nil {
		return err
	}
	what = fmt.Sprintf("memory after find of %d files", many.Files)
	return b.memoryAfter(ctx, what, 200, func(client client) (*mount, error) {
		if client.name() == "rclone" {
			return b.findServed(ctx, client, many)
		}
		bucket, err := b.seeded(ctx, client, many)
		if err != nil {
			return nil, err
		}
		m, err := b.mountCold(ctx, client, bucket, b.delayed.endpoint())
		if err != nil {
			return nil, err
		}
		began := time.Now()
		err = b.list(ctx, many, m.dir)
		b.say("  find -ls took %.2f s", time.Since(began).Seconds())
		return m, err
	})
}

// findServed lists a corpus that is served as it is, as nobody waits until 500,000
// files are uploaded; and without -ls, which costs rclone a request for each.
func (b *bench) findServed(ctx context.Context, client client, c *corpus) (*mount, error) {
	endpoint, err := b.serve(ctx, filepath.Dir(c.tree))
	if err != nil {
		return nil, err
	}
	m, err := b.mountCold(ctx, client, filepath.Base(c.tree), endpoint)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = b.command(ctx, "find", m.dir, "-name", "no such name").Run()
	b.say("  find took %.2f s", time.Since(began).Seconds())
	return m, err
}

func (b *bench) memoryAfter(ctx context.Context, what string, limit float64, use func(client) (*mount, error)) error {
	rss := b.measure(what+", RSS", "MB")
	pss := b.measure("… PSS", "MB")
	anonymous := b.measure("… of it not of files", "MB")
	defer rss.atMost(limit)
	for _, client := range b.clients("rclone") {
		m, err := use(client)
		if err != nil {
			return err
		}
		if client.name() == "valise" {
			if err := (valise{}).quiet(ctx, b, m); err != nil {
				return err
			}
		}
		is, err := memoryOf(m.pids())
		if err != nil {
			return err
		}
		rss.add(client.name(), float64(is.rss)/1e6)
		pss.add(client.name(), float64(is.pss)/1e6)
		anonymous.add(client.name(), float64(is.anonymous)/1e6)
		if err := b.close(m); err != nil {
			return err
		}
	}
	return nil
}

// serve shows a directory's directories as buckets.
func (b *bench) serve(ctx context.Context, dir string) (string, error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(b.serving, filepath.Join(b.dirs.bin, "versitygw"), "--port", address, "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+os.Getenv("AWS_ACCESS_KEY_ID"), "ROOT_SECRET_KEY="+os.Getenv("AWS_SECRET_ACCESS_KEY"))
	if err := b.spawn(cmd, "versitygw.log"); err != nil {
		return "", err
	}
	for range 100 {
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
			return "http://" + address, conn.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", fmt.Errorf("versitygw does not answer%s", tail(filepath.Join(b.dirs.work, "versitygw.log")))
}

// mount: 500,000 files.
func (b *bench) mount(ctx context.Context) error {
	c, err := b.corpus(ctx, "many")
	if err != nil {
		return err
	}
	ready := b.measure(fmt.Sprintf("cold mount of %d files", c.Files), "s")
	defer ready.atMost(5)
	bucket, err := b.seeded(ctx, valise{}, c)
	if err != nil {
		return err
	}
	for range b.runs {
		m, err := b.mountCold(ctx, valise{}, bucket, b.recorded.endpoint())
		if err != nil {
			return err
		}
		ready.add("valise", m.readyIn.Seconds())
		b.say("  %.2f s of processor time", cpuTime(m.pids()))
		if len(ready.Values["valise"]) == 1 {
			fmt.Fprintf(os.Stderr, "%s", timeline(m.began, b.recorder.during(m.began, m.began.Add(m.readyIn))))
		}
		if err := b.close(m); err != nil {
			return err
		}
	}
	return nil
}
