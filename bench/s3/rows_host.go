package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// In these rows the driver and the proxy give users their homes, in containers of a
// private engine. What stands under ext4 is a profile in a directory, by the same way.

// login: from the create to a running shell.
func (b *bench) login(ctx context.Context) error {
	c, err := b.corpus(ctx, "large")
	if err != nil {
		return err
	}
	warm := b.measure("login, S3 profile that this host knows", "s")
	cold := b.measure(fmt.Sprintf("login, S3 profile of %d files, new to this host", c.Files), "s")
	defer warm.timesOf("ext4", 1.5)
	defer cold.timesOf("ext4", 2)
	bucket, err := b.bucket("host")
	if err != nil {
		return err
	}
	for _, user := range []string{"warm", "cold"} {
		if err := b.importTree(ctx, bucket, user, c.tree); err != nil {
			return err
		}
	}
	if err := b.traceLogins(ctx, bucket); err != nil {
		return err
	}
	known, err := b.newHost(ctx, bucket, b.delayed)
	if err != nil {
		return err
	}
	fresh, err := b.newHost(ctx, bucket, b.delayed)
	if err != nil {
		return err
	}
	for _, as := range [][2]string{{inDirectory, "dora"}, {onS3, "warm"}} {
		if err := known.visit(ctx, as[0], as[1], nil, ""); err != nil {
			return err
		}
	}
	for range max(5, b.runs) { // in turn, so that what else the machine does falls on all
		if err := known.visit(ctx, inDirectory, "dora", warm, "ext4"); err != nil {
			return err
		}
		if err := known.visit(ctx, onS3, "warm", warm, "valise"); err != nil {
			return err
		}
		if err := fresh.renew(ctx); err != nil {
			return err
		}
		if err := fresh.visit(ctx, inDirectory, "dora", cold, "ext4"); err != nil {
			return err
		}
		if err := fresh.renew(ctx); err != nil {
			return err
		}
		if err := fresh.visit(ctx, onS3, "cold", cold, "valise"); err != nil {
			return err
		}
	}
	return nil
}

// traceLogins shows where the time of logins goes, on the recorded way. What is measured
// goes without the recorder, which takes time itself.
func (b *bench) traceLogins(ctx context.Context, bucket string) error {
	h, err := b.newHost(ctx, bucket, b.recorded)
	if err != nil {
		return err
	}
	for _, as := range [][2]string{{inDirectory, "dora"}, {onS3, "warm"}, {onS3, "warm"}, {onS3, "cold"}} {
		s, err := h.login(ctx, as[0], as[1])
		if err != nil {
			return err
		}
		b.say("login of %s with a profile in %s: %.2f s", as[1], as[0], s.took().Seconds())
		requests := append(h.calls.since(s.began), b.recorder.during(s.began, s.running)...)
		fmt.Fprintf(os.Stderr, "%s", timeline(s.began, sorted(requests)))
		if err := errors.Join(s.logout(ctx), h.saved(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// importTree makes a user's profile from a directory, the fast way.
func (b *bench) importTree(ctx context.Context, bucket, user, tree string) error {
	state := filepath.Join(b.dirs.work, "import")
	url := fmt.Sprintf("s3://%s@%s/%s/", bucket, b.store.endpoint, user)
	cmd := b.command(ctx, b.dirs.valise, "import", "--state-dir", state, tree, url)
	return errors.Join(cmd.Run(), os.RemoveAll(state))
}

// visit is a login that is measured, and a logout that is not.
func (h *host) visit(ctx context.Context, workspace, user string, into *measure, as string) error {
	s, err := h.login(ctx, workspace, user)
	if err != nil {
		return err
	}
	if into != nil {
		into.add(as, s.took().Seconds())
		s.tell()
	}
	if err := s.logout(ctx); err != nil {
		return err
	}
	return h.saved(ctx)
}

// tell says where a login's time went, in short.
func (s *session) tell() {
	b, calls := s.host.b, s.host.calls.since(s.began)
	of := map[string]time.Duration{}
	var order []string
	for _, c := range calls {
		what := strings.TrimPrefix(c.what, "VolumeDriver.")
		if of[what] == 0 {
			order = append(order, what)
		}
		of[what] += c.end.Sub(c.start)
	}
	var parts []string
	for _, what := range order {
		parts = append(parts, fmt.Sprintf("%s %.0f", what, ms(of[what])))
	}
	b.say("  create %.0f ms, start %.0f, shell %.0f; of it the driver: %s", ms(s.created.Sub(s.began)), ms(s.started.Sub(s.created)),
		ms(s.running.Sub(s.started)), strings.Join(parts, ", "))
}

// A session's work before it is logged out.
const (
	workFiles = 200
	workSize  = 100_000
	work      = `i=0; while [ $i -lt %d ]; do head -c %d /dev/urandom >f$i; i=$((i+1)); done`
)

// logout: docker stop, and what follows until another host has the profile.
func (b *bench) logout(ctx context.Context) error {
	stopped := b.measure(fmt.Sprintf("docker stop after %d files, %.0f MB", workFiles, workFiles*workSize/1e6), "s")
	free := b.measure("… until the lease is free", "s")
	other := b.measure("… until a shell runs on another host that asks at once", "s")
	bucket, err := b.bucket("host")
	if err != nil {
		return err
	}
	one, err := b.newHost(ctx, bucket, b.recorded)
	if err != nil {
		return err
	}
	two, err := b.newHost(ctx, bucket, b.recorded)
	if err != nil {
		return err
	}
	for _, workspace := range []string{inDirectory, onS3} {
		if err := two.visit(ctx, workspace, "first", nil, ""); err != nil {
			return err
		}
	}
	for i := range max(5, b.runs) {
		user := fmt.Sprintf("user%d", i)
		if _, _, err := one.leave(ctx, inDirectory, user, stopped, "ext4"); err != nil {
			return err
		}
		// First nobody waits, then somebody does.
		began, calls, err := one.leave(ctx, onS3, user, stopped, "valise")
		if err != nil {
			return err
		}
		if err := one.saved(ctx); err != nil {
			return err
		}
		released := lastOf(b.recorder.during(began, time.Now()), "PUT "+user+"/lease/")
		free.add("valise", released.Sub(began).Seconds())
		if i == 0 {
			fmt.Fprintf(os.Stderr, "%s", timeline(began, sorted(append(calls, b.recorder.during(began, time.Now())...))))
		}
		if began, _, err = one.leave(ctx, onS3, user, stopped, "valise"); err != nil {
			return err
		}
		s, err := two.login(ctx, onS3, user)
		if err != nil {
			return err
		}
		other.add("valise", s.running.Sub(began).Seconds())
		if err := s.do(fmt.Sprintf("[ $(ls | wc -l) = %d ]", workFiles)); err != nil {
			return err
		}
		if err := errors.Join(s.logout(ctx), one.saved(ctx), two.saved(ctx)); err != nil {
			return err
		}
	}
	is, _ := stopped.median("valise")
	directory, _ := stopped.median("ext4")
	stopped.aim("≤ 1 s beyond ext4", is-directory, 1, false, fmt.Sprintf("%.2f s", is-directory))
	return nil
}

// leave is a session that works and is stopped. It returns when that began, and what the
// driver was asked.
func (h *host) leave(ctx context.Context, workspace, user string, into *measure, as string) (time.Time, []request, error) {
	s, err := h.login(ctx, workspace, user)
	if err != nil {
		return time.Time{}, nil, err
	}
	if err := s.do(fmt.Sprintf(work, workFiles, workSize)); err != nil {
		return time.Time{}, nil, err
	}
	began := time.Now()
	took, err := s.stop(ctx)
	if err != nil {
		return began, nil, err
	}
	into.add(as, took.Seconds())
	calls := h.calls.since(began)
	return began, calls, s.remove(ctx)
}

// lastOf is the end of the last request of a kind.
func lastOf(requests []request, what string) (at time.Time) {
	for _, q := range requests {
		if strings.HasPrefix(q.what, what) && q.end.After(at) {
			at = q.end
		}
	}
	return at
}

const many = 100

// hundred: so many sessions at once.
func (b *bench) hundred(ctx context.Context) error {
	rss := b.measure(fmt.Sprintf("memory of each of %d mounts, RSS", many), "MB")
	pss := b.measure("… PSS", "MB")
	anonymous := b.measure("… of it not of files", "MB")
	first := b.measure("login, the first 5", "s")
	last := b.measure(fmt.Sprintf("login, the last 5 of %d", many), "s")
	tree, err := b.scratch()
	if err != nil {
		return err
	}
	if err := b.command(ctx, "sh", "-c", `cd "$1" && `+fmt.Sprintf(work, workFiles, workSize/10), "sh", tree).Run(); err != nil {
		return err
	}
	bucket, err := b.bucket("host")
	if err != nil {
		return err
	}
	b.say("%d profiles of %d files, %.0f MB", many, workFiles, workFiles*workSize/10/1e6)
	for i := range many {
		if err := b.importTree(ctx, bucket, fmt.Sprintf("user%d", i), tree); err != nil {
			return err
		}
	}
	h, err := b.newHost(ctx, bucket, b.delayed)
	if err != nil {
		return err
	}
	for _, as := range [][2]string{{inDirectory, "ext4"}, {onS3, "valise"}} {
		if err := h.visit(ctx, as[0], "before", nil, ""); err != nil {
			return err
		}
		for i := range many {
			s, err := h.login(ctx, as[0], fmt.Sprintf("user%d", i))
			if err != nil {
				return fmt.Errorf("login %d: %w", i+1, err)
			}
			switch {
			case i < 5:
				first.add(as[1], s.took().Seconds())
				s.tell()
			case i >= many-5:
				last.add(as[1], s.took().Seconds())
				s.tell()
			}
		}
		if as[0] == onS3 {
			time.Sleep(10 * time.Second) // what the logins began comes to its end
			pids, err := h.servers()
			if err != nil {
				return err
			}
			if len(pids) != 2*many {
				return fmt.Errorf("%d processes serve %d profiles", len(pids), many)
			}
			is, err := memoryOf(pids)
			if err != nil {
				return err
			}
			rss.add("valise", float64(is.rss)/1e6/many)
			pss.add("valise", float64(is.pss)/1e6/many)
			anonymous.add("valise", float64(is.anonymous)/1e6/many)
		}
		if err := errors.Join(h.removeSessions(ctx), h.saved(ctx)); err != nil {
			return err
		}
	}
	a, _ := first.median("valise")
	z, _ := last.median("valise")
	last.aim("≤ 1.5 × the first", z/a, 1.5, false, fmt.Sprintf("%.2f ×", z/a))
	return nil
}
