package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// passTime bounds one pass. What it has not got to, the next begins with.
	passTime = 2 * time.Minute

	// atOnce is how many containers or volumes a pass deals with at a time.
	atOnce = 8

	// settleTime is how long a container runs before it is told of what was so before:
	// its desktop has to come up.
	settleTime = 5 * time.Second

	// tries is how many passes try to tell a container one thing.
	tries = 3
)

// Notifier tells users about their homes.
type Notifier struct {
	cfg     Config
	engine  Engine
	drivers []string
	log     *slog.Logger
	hook    *webhook

	volumes map[string]*watched
	deaf    bool // the daemon's silence has been logged
}

// watched is a volume of ours that running containers have.
type watched struct {
	status
	state      state
	unlimited  bool // never anything to tell
	failing    bool // that it can't be inspected has been logged
	posted     told // to the webhook
	containers map[string]*listener
}

// listener is a running container with a volume.
type listener struct {
	id, name, target string

	seen     time.Time // first
	told     told
	failures int    // to tell it the present thing
	pending  string // a command that had not ended when it was last waited for
	grumbled bool   // a failure has been logged
	mute     bool   // its image does not have the command
}

// told is what somebody was told last.
type told struct {
	state state
	at    time.Time
}

// due says whether it is time to tell s.
func (t told) due(s state, now time.Time, repeat time.Duration) bool {
	switch {
	case s == over && t.state == unsaved, s == t.state:
		return s >= over && now.Sub(t.at) >= repeat
	default:
		return true
	}
}

// New makes a notifier for the volumes of a driver, by its name at the daemon.
func New(cfg Config, driver string, engine Engine, log *slog.Logger) (*Notifier, error) {
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Repeat == 0 {
		cfg.Repeat = defaultRepeat
	}
	if cfg.Command == nil {
		cfg.Command = Default()
	}
	if cfg.Interval < 0 || cfg.Repeat < 0 {
		return nil, errors.New("notices: interval and repeat are longer than nothing")
	}
	if err := CheckCommand(cfg.Command); err != nil {
		return nil, fmt.Errorf("notices: command: %w", err)
	}
	n := &Notifier{cfg: cfg, engine: engine, drivers: driverNames(driver), log: log, volumes: map[string]*watched{}}
	if cfg.Webhook != "" {
		if err := CheckWebhook(cfg.Webhook); err != nil {
			return nil, fmt.Errorf("notices: %w", err)
		}
		n.hook = newWebhook(cfg.Webhook, log)
	}
	return n, nil
}

// Run looks and tells until ctx ends, and returns when nothing of it is left.
func (n *Notifier) Run(ctx context.Context) {
	if n.cfg.Off || len(n.cfg.Command) == 0 && n.hook == nil {
		return
	}
	var posting sync.WaitGroup
	defer posting.Wait()
	if n.hook != nil {
		posting.Go(func() { n.hook.run(ctx) })
	}
	tick := time.NewTicker(n.cfg.Interval) // which drops what a long pass misses
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.pass(ctx)
		}
	}
}

// pass looks at everything once, and tells what is to be told.
func (n *Notifier) pass(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	if err := n.list(ctx); err != nil {
		if !n.deaf && ctx.Err() == nil {
			n.log.Warn("notices: list containers", "error", err)
		}
		n.deaf = true
		return
	}
	n.deaf = false
	n.inspect(ctx)
	n.post(time.Now())
	n.tell(ctx)
}

// list brings volumes and their containers up to date.
func (n *Notifier) list(ctx context.Context) error {
	list, err := n.engine.containers(ctx)
	if err != nil {
		return err
	}
	now, volumes := time.Now(), map[string]*watched{}
	for _, c := range list {
		for _, m := range c.Mounts {
			if !isVolume(m) || !slices.Contains(n.drivers, m.Driver) {
				continue
			}
			v := volumes[m.Name]
			if v == nil {
				v = &watched{}
				if known := n.volumes[m.Name]; known != nil {
					*v = *known
				}
				v.containers = map[string]*listener{}
				volumes[m.Name] = v
			}
			l := &listener{id: c.ID, name: c.name(), target: m.Destination, seen: now}
			if before := n.volumes[m.Name]; before != nil && before.containers[c.ID] != nil {
				l = before.containers[c.ID]
			}
			v.containers[c.ID] = l
		}
	}
	n.volumes = volumes
	return nil
}

// inspect asks for the state of each volume that can have one.
func (n *Notifier) inspect(ctx context.Context) {
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for name, v := range n.volumes {
		if v.unlimited {
			continue
		}
		group.Go(func() error {
			s, err := n.engine.status(ctx, name)
			if err != nil {
				if !v.failing && ctx.Err() == nil {
					n.log.Warn("notices: inspect volume", "volume", name, "error", err)
				}
				v.failing = true
				return nil
			}
			// A volume's kind stays as long as containers have it, unlike its limit.
			v.failing, v.unlimited = false, s.Kind == "mapping"
			v.status, v.state = s, s.judge(v.state)
			return nil
		})
	}
	_ = group.Wait() // none fails
}

// post hands the webhook what it does not know yet.
func (n *Notifier) post(now time.Time) {
	if n.hook == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.volumes)) {
		v := n.volumes[name]
		if !v.posted.due(v.state, now, n.cfg.Repeat) {
			continue
		}
		e := event{
			Event: eventChanged, Level: v.state.level(), NotSaved: v.state == unsaved, User: v.User, Workspace: v.Workspace,
			Volume: name, UsageBytes: v.Usage, LimitBytes: v.Limit, Time: now.UTC().Truncate(time.Second),
		}
		if v.posted.state.level() == e.Level && v.state <= v.posted.state {
			e.Event = eventRepeated
		}
		for _, id := range slices.Sorted(maps.Keys(v.containers)) {
			e.Containers = append(e.Containers, eventContainer{ID: id, Name: v.containers[id].name})
		}
		n.hook.queue(e)
		v.posted = told{v.state, now}
	}
}

// tell runs the command in each container that does not know yet.
func (n *Notifier) tell(ctx context.Context) {
	if len(n.cfg.Command) == 0 {
		return
	}
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for name, v := range n.volumes {
		for _, l := range v.containers {
			now := time.Now()
			if l.mute || !l.told.due(v.state, now, n.cfg.Repeat) || now.Sub(l.seen) < settleTime {
				continue
			}
			group.Go(func() error {
				if ctx.Err() == nil {
					n.tellOne(ctx, name, v, l)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // none fails
}

// tellOne runs the command in a container and notes that, or why it failed.
func (n *Notifier) tellOne(ctx context.Context, volume string, v *watched, l *listener) {
	if l.pending != "" {
		runs, _, err := n.engine.ended(ctx, l.pending)
		if runs || err != nil && !isGone(err) {
			return // one dialog at a time
		}
		l.pending = ""
	}
	what := notice{status: v.status, now: v.state, before: l.told.state, target: l.target}
	res, err := n.engine.run(ctx, l.id, expand(n.cfg.Command, what.values()))
	log := n.log.With("container", l.name, "volume", volume, "level", v.state.level())
	switch {
	case err == nil && res.runs:
		l.pending = res.exec
		log.Debug("notice under way")
	case err == nil && res.code == 0:
		log.Debug("notice")
	case ctx.Err() != nil:
		return
	default:
		if !l.grumbled && !isGone(err) {
			why := []any{"command", n.cfg.Command[0]}
			if err != nil {
				why = append(why, "error", err)
			} else {
				why = append(why, "exit_code", res.code, "output", res.output)
			}
			log.Info("a notice could not be shown; no more is said of this container", why...)
			l.grumbled = true
		}
		// What is not in the image will not come; all else may.
		l.mute = res.code == notFound
		if l.failures++; l.failures < tries && res.code != notFound && res.code != notExecutable {
			return
		}
	}
	l.failures, l.told = 0, told{v.state, time.Now()}
}

// isGone tells that a container has ended, which the next pass sees.
func isGone(err error) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && (answer.status == http.StatusNotFound || answer.status == http.StatusConflict)
}
