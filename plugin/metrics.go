package plugin

import (
	"net/http"

	"valise/session"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the driver's, in a registry of its own.
type metrics struct {
	registry     *prometheus.Registry
	failures     *prometheus.CounterVec
	mountSeconds prometheus.Histogram

	upkeep             *prometheus.CounterVec
	forgotten, deleted prometheus.Counter
	faults             *prometheus.GaugeVec
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
	m.upkeep = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "valise_upkeep_total", Help: "Prunes and checks of profiles on S3, by outcome.",
	}, []string{"operation", "result"})
	m.forgotten = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "valise_snapshots_forgotten_total", Help: "Snapshots that the retention rules dropped.",
	})
	m.deleted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "valise_objects_deleted_total", Help: "Objects on S3 that prunes deleted.",
	})
	m.faults = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "valise_profile_faults", Help: "What the last check of a profile on S3 found wrong.",
	}, []string{"path"})
	m.registry.MustRegister(m.failures, m.mountSeconds, m.upkeep, m.forgotten, m.deleted, m.faults, &collector{
		d:       d,
		remotes: prometheus.NewDesc("valise_remote_profiles", "Profiles on S3 that this host serves or has unsaved changes of, by state.", []string{"state"}, nil),
		unsaved: prometheus.NewDesc("valise_profile_unsaved", "1 for a profile on S3 whose changes can't be saved, by reason.", []string{"path", "reason"}, nil),
		saved:   prometheus.NewDesc("valise_profile_saved_timestamp_seconds", "When everything written to a profile on S3 was saved last.", []string{"path"}, nil),
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
	remotes, unsaved, saved       *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.volumes, c.mounts, c.usage, c.limit, c.remotes, c.unsaved, c.saved} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	statuses := c.d.remoteStatuses()
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
	states := map[string]int{session.StateMounted: 0, session.StateEnding: 0, session.StatePending: 0}
	for _, st := range statuses {
		states[st.State]++
		if why := unsavedBecause(st); why != "" {
			gauge(c.unsaved, 1, st.URL, why)
		}
		if !st.LastSave.IsZero() {
			gauge(c.saved, float64(st.LastSave.Unix()), st.URL)
		}
		if st.Size > 0 {
			gauge(c.usage, float64(st.Size), st.URL)
		}
	}
	for state, n := range states {
		gauge(c.remotes, float64(n), state)
	}
	for path, m := range c.d.usage {
		gauge(c.usage, float64(m.Bytes), path)
	}
}
