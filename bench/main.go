// Command bench measures what the proxy costs: it sends the same requests to a Docker
// daemon and, in turn, through the proxy to the same daemon, and prints both.
//
// Direct and through alternate in short blocks, so that whatever else the machine does
// falls on both, and they are compared pair by pair. It is scripts/bench-proxy.sh's;
// nothing of the product uses it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"
)

// settings are the command line's.
type settings struct {
	direct, proxy string // addresses
	pid           int    // the proxy's
	image, big    string // one of a workspace, one to save
	user          string
	quick         bool
}

func main() {
	var s settings
	flag.StringVar(&s.direct, "direct", "", "the daemon's `unix://` address")
	flag.StringVar(&s.proxy, "proxy", "", "the proxy's `unix://` address")
	flag.IntVar(&s.pid, "pid", 0, "the proxy's `PID`, whose memory is watched")
	flag.StringVar(&s.image, "image", "", "an `IMAGE` of a workspace")
	flag.StringVar(&s.big, "big", "", "the `IMAGE` to save")
	flag.StringVar(&s.user, "user", "alice", "a `USER` with a profile")
	flag.BoolVar(&s.quick, "quick", false, "a tenth of everything")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	direct, proxy := newClient(s.direct), newClient(s.proxy)
	plain := container{Image: s.image}
	matched := container{Image: s.image, Labels: map[string]string{"valise.user": s.user}}
	mounted, err := proxy.rewritten(ctx, matched)
	if err != nil {
		return err
	}
	scale := 10
	if s.quick {
		scale = 1
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\t\tdirect\tproxy\tadded\tproxy/direct\t")
	for _, r := range []struct {
		what                string
		blocks, size        int
		viaDirect, viaProxy action
	}{
		{"GET /_ping", 4 * scale, 200, direct.ping, proxy.ping},
		{"create + DELETE", 4 * scale, 10, direct.createAndDelete(plain), proxy.createAndDelete(plain)},
		{"with a profile", 4 * scale, 10, direct.createAndDelete(mounted), proxy.createAndDelete(matched)},
	} {
		one, err := alternate(ctx, r.blocks, r.size, 1, r.viaDirect, r.viaProxy)
		if err != nil {
			return err
		}
		many, err := alternate(ctx, r.blocks, r.size, connections, r.viaDirect, r.viaProxy)
		if err != nil {
			return err
		}
		one.row(w, r.what, "p50, ms", 50)
		one.row(w, "", "p99, ms", 99)
		one.rateRow(w, "1/s")
		many.rateRow(w, fmt.Sprintf("1/s, %d connections", connections))
	}
	if err := streaming(ctx, w, s, scale, direct, proxy); err != nil {
		return err
	}
	return w.Flush()
}

// connections are used at once where requests per second are counted.
const connections = 4

// streaming saves an image again and again and watches the proxy's memory meanwhile.
func streaming(ctx context.Context, w *tabwriter.Writer, s settings, times int, direct, proxy *client) error {
	if err := direct.save(ctx, s.big); err != nil { // into the page cache
		return err
	}
	before, err := resident(s.pid)
	if err != nil {
		return err
	}
	if err := forgetPeak(s.pid); err != nil {
		return err
	}
	direct.received.Store(0)
	saves, err := alternate(ctx, times, 1, 1,
		func(ctx context.Context) error { return direct.save(ctx, s.big) },
		func(ctx context.Context) error { return proxy.save(ctx, s.big) })
	if err != nil {
		return err
	}
	peak, err := peakResident(s.pid)
	if err != nil {
		return err
	}
	size := float64(direct.received.Load()) / float64(times+1)
	rate := func(t time.Duration) float64 { return size / 1e6 / t.Seconds() }
	fmt.Fprintf(w, rowHead+"%.0f\t%.0f\t\t%.2f\t\n", "docker save", fmt.Sprintf("MB/s, %.0f MB", size/1e6),
		median(saves, func(b pair) float64 { return rate(b.direct.took) }),
		median(saves, func(b pair) float64 { return rate(b.proxy.took) }),
		median(saves, func(b pair) float64 { return rate(b.proxy.took) / rate(b.direct.took) }))
	fmt.Fprintf(w, rowHead+"\t%.1f → %.1f\t%+.1f\t\t\n", "the proxy's memory", "MB, before → peak",
		mb(before), mb(peak), mb(peak)-mb(before))
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
