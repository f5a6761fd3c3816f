package session

import (
	"context"
	"log/slog"
	"time"

	"valise/store"
)

// Event is one operation on a profile, as the log has it. The keys are the same for all
// and do not change: programs read them.
type Event struct {
	Name     string // event: save, mount, finish, import, reset, prune, check
	Snapshot string // the one that was made
	Files    int64  // read
	Bytes    int64  // uploaded
	Requests int64
	Duration time.Duration
	Err      error
}

// Log writes the event of a profile. Success is told at level info, a failure at warning.
func (e Event) Log(log *slog.Logger, url, user, workspace string) {
	level, result := slog.LevelInfo, "ok"
	attrs := []slog.Attr{
		slog.String("event", e.Name), slog.String("profile", url), slog.String("user", user), slog.String("workspace", workspace),
		slog.String("snapshot", e.Snapshot), slog.Int64("files", e.Files), slog.Int64("bytes", e.Bytes),
		slog.Int64("requests", e.Requests), slog.Float64("duration", e.Duration.Seconds()),
	}
	if e.Err != nil {
		level, result = slog.LevelWarn, "failed"
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	log.LogAttrs(context.Background(), level, e.Name, append(attrs, slog.String("result", result))...)
}

// measured fills in what was transferred since before.
func (e Event) measured(before, after store.Traffic) Event {
	e.Bytes, e.Requests = after.Sent-before.Sent, after.Requests-before.Requests
	return e
}
