// Command s3 measures profiles on S3 beside rclone mount, s3fs and a plain directory:
// the same trees, the same store behind the same delay, one after the other.
//
// It is scripts/bench-s3.sh's, which starts the store and removes what is left; nothing
// of the product uses it. It needs root and drops the kernel's caches.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// rows are what can be measured, in order.
var rows = []struct {
	name    string
	measure func(*bench, context.Context) error
}{
	{"untar-large", (*bench).untarLarge},
	{"untar", (*bench).untar},
	{"read", (*bench).read},
	{"first", (*bench).first},
	{"find", (*bench).find},
	{"grep", (*bench).grep},
	{"append", (*bench).append},
	{"unchanged", (*bench).unchanged},
	{"memory", (*bench).memory},
	{"mount", (*bench).mount},
	{"login", (*bench).login},
	{"logout", (*bench).logout},
	{"hundred", (*bench).hundred},
}

// bench is one run of the benchmark.
type bench struct {
	dirs struct {
		work    string // scratch, on the file system that is measured
		corpora string
		bin     string // of the peers
		valise  string // the program
	}
	store struct {
		endpoint string // not delayed
		data     string // MinIO's
	}
	peers   []client
	runs    int
	latency time.Duration

	delayed  *link // the way of whatever is measured
	recorded *link // the same, through the recorder
	recorder *recorder

	serving context.Context // ends the servers
	servers sync.WaitGroup
	corpora map[string]*corpus
	seeds   map[string]string
	mounts  []*mount
	kind    string // of the engine
	engine  string // its address, "" if it does not run
	hosts   []*host
	trash   []string // directories to remove at the end of the row
	made    int
	row     string
	report  report
}

func main() {
	b := &bench{corpora: map[string]*corpus{}, seeds: map[string]string{}}
	var only, peers, name string
	flag.StringVar(&b.dirs.work, "work", "", "scratch `DIR` on an ext4: homes, what clients keep, and plain directories")
	flag.StringVar(&b.dirs.corpora, "corpora", "", "`DIR` of the corpora, made if they are not there")
	flag.StringVar(&b.dirs.bin, "bin", "build/s3/bin", "`DIR` of toxiproxy-server, rclone and versitygw")
	flag.StringVar(&b.dirs.valise, "valise", "build/valise", "the `PROGRAM` that is measured")
	flag.StringVar(&b.store.endpoint, "endpoint", "", "the store's `URL`; credentials are in the environment")
	flag.StringVar(&b.store.data, "data", "", "MinIO's data `DIR`, in which a directory is a bucket")
	flag.DurationVar(&b.latency, "latency", 20*time.Millisecond, "`TIME` of a round trip to the store")
	flag.IntVar(&b.runs, "runs", 3, "`N` runs of what is short, whose median counts; 1 of what is long")
	flag.StringVar(&only, "rows", "", "`ROWS` to measure, all of them if empty: "+rowNames())
	flag.StringVar(&peers, "peers", "rclone s3fs", "`PEERS` to compare with")
	flag.StringVar(&b.kind, "engine", "debian", "`KIND` of the Docker Engine, of those of scripts/engine.sh")
	flag.StringVar(&name, "json", "", "`FILE` for the raw values")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, strings.Fields(only), strings.Fields(peers), name); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func rowNames() string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

var errFailed = errors.New("some rows failed")

func (b *bench) run(ctx context.Context, only, peers []string, name string) (err error) {
	for _, peer := range peers {
		switch peer {
		case "rclone":
			b.peers = append(b.peers, rclone{})
		case "s3fs":
			b.peers = append(b.peers, s3fs{})
		default:
			return fmt.Errorf("no peer %q: want rclone, s3fs", peer)
		}
	}
	for _, row := range only {
		if !slices.Contains(strings.Split(rowNames(), ", "), row) {
			return fmt.Errorf("no row %q: want some of %s", row, rowNames())
		}
	}
	if b.report.Machine, err = machine(); err != nil {
		return err
	}
	b.report.Latency = ms(b.latency)
	defer func() { err = errors.Join(err, b.stopEngine()) }()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // longer than any mount
	defer b.servers.Wait()
	defer stop()
	if err := b.connect(serving); err != nil {
		return err
	}
	b.serving = serving
	for _, row := range rows {
		if len(only) > 0 && !slices.Contains(only, row.name) || ctx.Err() != nil {
			continue
		}
		b.row = row.name
		began := time.Now()
		err := row.measure(b, ctx)
		if err := errors.Join(err, b.endRow(err == nil)); err != nil {
			b.say("%s FAILED: %v", row.name, err)
			b.report.Failed = append(b.report.Failed, fmt.Sprintf("%s: %v", row.name, err))
		}
		b.say("row %s took %.0f s", row.name, time.Since(began).Seconds())
	}
	b.report.table(os.Stdout)
	if name != "" {
		if err := b.report.write(name); err != nil {
			return err
		}
	}
	if len(b.report.Failed) > 0 {
		return errFailed
	}
	return ctx.Err()
}

// connect lays the ways to the store.
func (b *bench) connect(ctx context.Context) error {
	links, err := b.startLinks(ctx)
	if err != nil {
		return err
	}
	direct := strings.TrimPrefix(b.store.endpoint, "http://")
	if b.delayed, err = links.add(ctx, "delayed", direct); err != nil {
		return err
	}
	if b.recorder, err = startRecorder(b.store.endpoint); err != nil {
		return err
	}
	if b.recorded, err = links.add(ctx, "recorded", b.recorder.Address); err != nil {
		return err
	}
	return errors.Join(b.delayed.delay(ctx, b.latency), b.recorded.delay(ctx, b.latency))
}

func (l *link) endpoint() string { return "http://" + l.Address }

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "== "+format+"\n", args...)
}

// machine says where this was measured.
func machine() (string, error) {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return "", err
	}
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	model := "unknown processor"
	cores := 0
	data, err := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		what, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(what) {
		case "processor":
			cores++
		case "model name":
			model = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%d cores (%s), Linux %s, %s", cores, model, release, time.Now().Format(time.DateOnly)), err
}

// scratch is a new directory on the disk that is measured, until the end of the row.
func (b *bench) scratch() (string, error) {
	b.made++
	dir := filepath.Join(b.dirs.work, fmt.Sprintf("d%03d", b.made))
	b.trash = append(b.trash, dir)
	return dir, os.Mkdir(dir, 0o755)
}
