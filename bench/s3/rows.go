package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// clients are valise and the peers, those of a list of names.
func (b *bench) clients(of ...string) []client {
	out := []client{valise{}}
	for _, peer := range b.peers {
		for _, name := range of {
			if peer.name() == name {
				out = append(out, peer)
			}
		}
	}
	return out
}

// times is how often something is measured that takes the peers long.
func (b *bench) times(c client) int {
	if c.name() == "valise" {
		return b.runs
	}
	return 1
}

// unpack is tar -x, as somebody who is not root would do it.
func (b *bench) unpack(ctx context.Context, c *corpus, dir string) error {
	return b.command(ctx, "tar", "-xf", c.tar, "-C", dir, "--no-same-owner", "--no-same-permissions").Run()
}

// readAll reads every file below dir, and checks that it is all.
func (b *bench) readAll(ctx context.Context, c *corpus, dir string) error {
	out, err := b.command(ctx, "sh", "-c", `cd "$1" && find . -type f -print0 | xargs -0 cat | wc -c`, "sh", dir).Output()
	if err != nil {
		return err
	}
	if n, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64); err != nil || n != c.Bytes {
		return fmt.Errorf("%s has %s bytes, not %d", dir, bytes.TrimSpace(out), c.Bytes)
	}
	return nil
}

// list is find -ls, and checks that everything is there.
func (b *bench) list(ctx context.Context, c *corpus, dir string) error {
	out, err := b.command(ctx, "find", dir, "-ls").Output()
	if err != nil {
		return err
	}
	if n := bytes.Count(out, []byte("\n")); n != c.Files+c.Dirs+1 {
		return fmt.Errorf("find in %s: %d lines, not %d", dir, n, c.Files+c.Dirs+1)
	}
	return nil
}

// warm brings a corpus' tar file into memory.
func (b *bench) warm(ctx context.Context, c *corpus) error {
	return b.command(ctx, "sh", "-c", `cat "$1" >/dev/null`, "sh", c.tar).Run()
}

// untar: 2,400 files until they are on S3.
func (b *bench) untar(ctx context.Context) error {
	c, err := b.corpus(ctx, "small")
	if err != nil {
		return err
	}
	durable := b.measure(fmt.Sprintf("untar %d files until durable on S3", c.Files), "s")
	alone := b.measure("… until tar returns", "s")
	defer durable.fasterThan("rclone", 12)
	for _, client := range b.clients("rclone", "s3fs") {
		for range b.times(client) {
			if err := b.untarTo(ctx, client, c, alone, durable); err != nil {
				return err
			}
		}
	}
	for range b.runs {
		if err := b.untarLocal(ctx, c, alone, durable); err != nil {
			return err
		}
	}
	return nil
}

// untarTo unpacks into an empty home, and waits until that is on S3. It stays mounted,
// so that nothing is removed while more is measured.
func (b *bench) untarTo(ctx context.Context, client client, c *corpus, alone, durable *measure) error {
	bucket, err := b.bucket(client.name())
	if err != nil {
		return err
	}
	m, err := b.mountBucket(ctx, client, bucket, b.delayed.endpoint())
	if err != nil {
		return err
	}
	if err := b.warm(ctx, c); err != nil {
		return err
	}
	syscall.Sync()
	began, computed := time.Now(), cpuTime(m.pids())
	if err := b.unpack(ctx, c, m.dir); err != nil {
		return err
	}
	alone.add(client.name(), time.Since(began).Seconds())
	if durable == nil {
		return b.discard(m)
	}
	if err := client.durable(ctx, b, m, c.Files, c.Bytes); err != nil {
		return err
	}
	durable.add(client.name(), time.Since(began).Seconds())
	b.say("  %.2f s of processor time", cpuTime(m.pids())-computed)
	if client.name() == "valise" {
		return valise{}.holds(ctx, b, bucket, c.Files, c.Bytes)
	}
	return nil
}

func (b *bench) untarLocal(ctx context.Context, c *corpus, alone, durable *measure) error {
	dir, err := b.scratch()
	if err != nil {
		return err
	}
	if err := b.warm(ctx, c); err != nil {
		return err
	}
	syscall.Sync()
	began := time.Now()
	if err := b.unpack(ctx, c, dir); err != nil {
		return err
	}
	alone.add("ext4", time.Since(began).Seconds())
	if err := b.command(ctx, "sync", "-f", dir).Run(); err != nil {
		return err
	}
	durable.add("ext4", time.Since(began).Seconds())
	return nil
}

// read: mount, and read every file.
func (b *bench) read(ctx context.Context) error {
	c, err := b.corpus(ctx, "small")
	if err != nil {
		return err
	}
	cold := b.measure(fmt.Sprintf("cold mount and read of %d files", c.Files), "s")
	defer cold.fasterThan("rclone", 30)
	for _, client := range b.clients("rclone", "s3fs") {
		bucket, err := b.seeded(ctx, client, c)
		if err != nil {
			return err
		}
		for range b.times(client) {
			m, err := b.mountCold(ctx, client, bucket, b.delayed.endpoint())
			if err != nil {
				return err
			}
			if err := b.readAll(ctx, c, m.dir); err != nil {
				return err
			}
			cold.add(client.name(), time.Since(m.began).Seconds())
			b.say("  ready after %.2f s; %.2f s of processor time", m.readyIn.Seconds(), cpuTime(m.pids()))
			if err := b.close(m); err != nil {
				return err
			}
		}
	}
	for range b.runs {
		if err := dropCaches(); err != nil {
			return err
		}
		began := time.Now()
		if err := b.readAll(ctx, c, c.tree); err != nil {
			return err
		}
		cold.add("ext4", time.Since(began).Seconds())
	}
	return nil
}

func (b *bench) mountCold(ctx context.Context, client client, bucket, endpoint string) (*mount, error) {
	if err := dropCaches(); err != nil {
		return nil, err
	}
	return b.mountBucket(ctx, client, bucket, endpoint)
}

// first: mount, and read one byte.
func (b *bench) first(ctx context.Context) error {
	c, err := b.corpus(ctx, "small")
	if err != nil {
		return err
	}
	far := b.measure("cold mount to the first byte", "s")
	near := b.measure("… with no latency", "s")
	trips := b.measure("… round trips, by time", "")
	chained := b.measure("… requests that follow one another", "")
	defer trips.atMost(8)
	defer chained.atMost(8)
	for _, client := range b.clients("rclone", "s3fs") {
		bucket, err := b.seeded(ctx, client, c)
		if err != nil {
			return err
		}
		for range max(5, b.runs) {
			if err := b.firstByte(ctx, client, bucket, c, near, nil, 0); err != nil {
				return err
			}
			if err := b.firstByte(ctx, client, bucket, c, far, chained, b.latency); err != nil {
				return err
			}
		}
		t, _ := far.median(client.name())
		t0, _ := near.median(client.name())
		trips.add(client.name(), (t-t0)/b.latency.Seconds())
	}
	return nil
}

func (b *bench) firstByte(ctx context.Context, client client, bucket string, c *corpus, took, chained *measure, latency time.Duration) error {
	if err := b.recorded.delay(ctx, latency); err != nil {
		return err
	}
	m, err := b.mountCold(ctx, client, bucket, b.recorded.endpoint())
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(m.dir, c.First))
	if err != nil {
		return err
	}
	if _, err := f.Read(make([]byte, 1)); err != nil {
		return errors.Join(err, f.Close())
	}
	until := time.Now()
	took.add(client.name(), until.Sub(m.began).Seconds())
	if chained != nil {
		requests := b.recorder.during(m.began, until.Add(-latency)) // whose answers had come
		row := chain(requests, latency)
		if client.name() == "valise" && len(chained.Values["valise"]) == 0 {
			fmt.Fprintf(os.Stderr, "%s", timeline(m.began, requests))
			b.say("  ready after %.0f ms; the chain: %s", ms(m.readyIn), names(row))
		}
		chained.add(client.name(), float64(len(row)))
	}
	return errors.Join(f.Close(), b.close(m))
}

// find: list 20,000 files.
func (b *bench) find(ctx context.Context) error {
	c, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	ready := b.measure(fmt.Sprintf("cold `find -ls` of %d files", c.Files), "s")
	whole := b.measure("… with the mount", "s")
	defer ready.atMost(1.5)
	for _, client := range b.clients("rclone", "s3fs") {
		bucket, err := b.seeded(ctx, client, c)
		if err != nil {
			return err
		}
		for range b.times(client) {
			m, err := b.mountCold(ctx, client, bucket, b.delayed.endpoint())
			if err != nil {
				return err
			}
			began, computed := time.Now(), cpuTime(m.pids())
			if err := b.list(ctx, c, m.dir); err != nil {
				return err
			}
			ready.add(client.name(), time.Since(began).Seconds())
			whole.add(client.name(), time.Since(m.began).Seconds())
			b.say("  ready after %.2f s; %.2f s of processor time for the mount, %.2f for find",
				m.readyIn.Seconds(), computed, cpuTime(m.pids())-computed)
			if err := b.close(m); err != nil {
				return err
			}
		}
	}
	for range b.runs {
		if err := dropCaches(); err != nil {
			return err
		}
		began := time.Now()
		if err := b.list(ctx, c, c.tree); err != nil {
			return err
		}
		ready.add("ext4", time.Since(began).Seconds())
	}
	return nil
}
