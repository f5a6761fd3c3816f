package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// An action is the request, or requests, whose time is taken.
type action func(context.Context) error

// A block is one side's turn.
type block struct {
	samples []time.Duration // sorted
	took    time.Duration
}

// A pair is a turn of each side, one right after the other.
type pair struct{ direct, proxy block }

type pairs []pair

// alternate runs blocks of size actions, direct and through the proxy in turn, each
// on so many connections at once. The first pair is not counted.
func alternate(ctx context.Context, blocks, size, connections int, direct, proxy action) (pairs, error) {
	var out pairs
	for i := range blocks + 1 {
		var p pair
		var err error
		if p.direct, err = turn(ctx, size, connections, direct); err != nil {
			return nil, fmt.Errorf("direct: %w", err)
		}
		if p.proxy, err = turn(ctx, size, connections, proxy); err != nil {
			return nil, fmt.Errorf("through the proxy: %w", err)
		}
		if i > 0 {
			out = append(out, p)
		}
	}
	return out, nil
}

func turn(ctx context.Context, size, connections int, act action) (block, error) {
	samples := make([]time.Duration, size)
	errs := make([]error, connections)
	started := time.Now()
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for i := c; i < size && errs[c] == nil; i += connections {
				began := time.Now()
				errs[c] = act(ctx)
				samples[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b := block{samples: samples, took: time.Since(started)}
	slices.Sort(b.samples)
	for _, err := range errs {
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// percentile of sorted samples, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	i := min(len(sorted)*p/100, len(sorted)-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}

// all are the samples of one side, sorted.
func (ps pairs) all(side func(pair) block) []time.Duration {
	var out []time.Duration
	for _, p := range ps {
		out = append(out, side(p).samples...)
	}
	slices.Sort(out)
	return out
}

func directOf(p pair) block { return p.direct }
func proxyOf(p pair) block  { return p.proxy }

// median of a value of each pair.
func median(ps pairs, value func(pair) float64) float64 {
	var values []float64
	for _, p := range ps {
		values = append(values, value(p))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// rowHead begins each row: columns align to the right, these two look better to the left.
const rowHead = "%-18s\t%-19s\t"

// row prints a percentile of each side's samples. What is added to the median is the
// median of the pairs' differences; blocks are too short to have a p99 each.
func (ps pairs) row(w *tabwriter.Writer, what, unit string, p int) {
	direct, proxy := percentile(ps.all(directOf), p), percentile(ps.all(proxyOf), p)
	added, ratio := proxy-direct, proxy/direct
	if p == 50 {
		added = median(ps, func(b pair) float64 { return percentile(b.proxy.samples, p) - percentile(b.direct.samples, p) })
		ratio = median(ps, func(b pair) float64 { return percentile(b.proxy.samples, p) / percentile(b.direct.samples, p) })
	}
	fmt.Fprintf(w, rowHead+"%.3f\t%.3f\t%+.3f\t%.2f\t\n", what, unit, direct, proxy, added, ratio)
}

// rateRow prints how many actions were done in a second.
func (ps pairs) rateRow(w *tabwriter.Writer, unit string) {
	rate := func(b block) float64 { return float64(len(b.samples)) / b.took.Seconds() }
	fmt.Fprintf(w, rowHead+"%.0f\t%.0f\t\t%.2f\t\n", "", unit,
		median(ps, func(p pair) float64 { return rate(p.direct) }),
		median(ps, func(p pair) float64 { return rate(p.proxy) }),
		median(ps, func(p pair) float64 { return rate(p.proxy) / rate(p.direct) }))
}
