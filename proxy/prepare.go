package proxy

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"valise/profile"
	"valise/volume"
)

// prepare asks the driver whether everything can be mounted, puts it into the create,
// and resets the profile where that is asked for: last, when nothing else can refuse.
func (p *Proxy) prepare(ctx context.Context, pl *plan, doc document) error {
	if err := misplaced(doc); err != nil {
		return err
	}
	if err := p.check(ctx, pl); err != nil {
		return err
	}
	warnings, err := inject(doc, pl.injections, p.cfg.Driver, p.cfg.RefuseConflict)
	if err != nil {
		return err
	}
	pl.warnings = append(pl.warnings, warnings...)
	if pl.mode != profile.Reset {
		return nil
	}
	for _, in := range pl.injections {
		if in.spec.Kind() == volume.Profile {
			return p.control(ctx, in.spec, volume.Reset)
		}
	}
	return nil
}

// check has the driver look at every injection, all at once. What is optional and can't
// be mounted is left out with a warning.
func (p *Proxy) check(ctx context.Context, pl *plan) error {
	errs := make([]error, len(pl.injections))
	var wg sync.WaitGroup
	for i, in := range pl.injections {
		wg.Go(func() { errs[i] = p.control(ctx, in.spec, volume.Check) })
	}
	wg.Wait()
	var kept []injection
	for i, in := range pl.injections {
		switch {
		case errs[i] == nil:
			kept = append(kept, in)
		case in.optional:
			pl.warnings = append(pl.warnings, fmt.Sprintf("the container starts without %s: %s", in.target, strings.TrimPrefix(errs[i].Error(), "valise: ")))
		default:
			return errs[i]
		}
	}
	pl.injections = kept
	return nil
}
