package plugin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the driver's, in a registry of its own.
type metrics struct {
	registry     *prometheus.Registry
	failures     *prometheus.CounterVec
	mountSeconds prometheus.Histogram
}

func newMetrics(d *Driver) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "valise_failures_total", Help: "Calls of Docker that ended in an error, by call.",
		}, []string{"call"}),
		mountSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "valise_mount_seconds", Help: "Time of a successful mount.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100},
		}),
	}
	m.registry.MustRegister(m.failures, m.mountSeconds, &collector{
		d:       d,
		volumes: prometheus.NewDesc("valise_volumes", "Volumes that the driver knows.", nil, nil),
		mounts:  prometheus.NewDesc("valise_profile_mounts", "Containers that have a path mounted.", []string{"path"}, nil),
		usage:   prometheus.NewDesc("valise_profile_usage_bytes", "Disk usage of a path when last measured.", []string{"path"}, nil),
		limit:   prometheus.NewDesc("valise_profile_limit_bytes", "Size limit of a mounted path.", []string{"path"}, nil),
	})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// collector reads the driver's state when it is asked.
type collector struct {
	d                             *Driver
	volumes, mounts, usage, limit *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.volumes, c.mounts, c.usage, c.limit} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.volumes, float64(len(c.d.volumes)))
	mounts := map[string]int{}
	for _, r := range c.d.volumes {
		for _, ref := range r.Mounts {
			mounts[ref.Backing.Path]++
		}
	}
	for path, n := range mounts {
		gauge(c.mounts, float64(n), path)
		if limit := c.d.smallestLimit(path); limit > 0 {
			gauge(c.limit, float64(limit), path)
		}
	}
	for path, m := range c.d.usage {
		gauge(c.usage, float64(m.Bytes), path)
	}
}
