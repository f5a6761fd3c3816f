package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dated makes snapshots of the main line, newest first, from their times.
func dated(times ...string) (all []Snapshot) {
	for i, text := range times {
		at, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			panic(err)
		}
		all = append(all, Snapshot{Epoch: 1, Seq: uint64(len(times) - i), Time: at})
	}
	return all
}

func namesOf(all []Snapshot) (out []string) {
	for _, s := range all {
		out = append(out, s.Name())
	}
	return out
}

func TestRetention(t *testing.T) {
	days := dated(
		"2026-03-02 12:00", // 9, a Monday
		"2026-03-02 09:00", // 8
		"2026-03-01 23:59", // 7, the Sunday of the week before
		"2026-03-01 00:00", // 6
		"2026-02-28 12:00", // 5
		"2026-02-10 12:00", // 4
		"2026-01-05 12:00", // 3
		"2025-12-31 12:00", // 2, of week 1 of 2026, as 3 is of week 2
		"2025-12-29 12:00", // 1
	)
	same := dated("2026-03-02 12:00", "2026-03-02 12:00", "2026-03-02 12:00")
	back := dated("2026-03-01 12:00", "2026-03-02 12:00", "2026-03-01 11:00", "2026-03-02 11:00", "2026-02-27 12:00")
	beside := append(dated("2026-03-02 12:00", "2026-03-01 12:00"),
		Snapshot{Epoch: 1, Seq: 2, Nonce: "0123456789", Conflict: true},
		Snapshot{Epoch: 1, Seq: 1, Nonce: "abcdefghij", Conflict: true, stray: true})
	for _, tt := range []struct {
		name string
		keep Retention
		all  []Snapshot
		want []string
	}{
		{"no rule keeps all", Retention{}, days, []string{"9", "8", "7", "6", "5", "4", "3", "2", "1"}},
		{"last", Retention{Last: 2}, days, []string{"9", "8"}},
		{"last of one time", Retention{Last: 2}, same, []string{"3", "2"}},
		{"more than there are", Retention{Last: 100}, days, []string{"9", "8", "7", "6", "5", "4", "3", "2", "1"}},
		{"daily", Retention{Daily: 3}, days, []string{"9", "7", "5"}},
		{"daily, with clocks that disagree", Retention{Daily: 3}, back, []string{"5", "4", "1"}},
		{"weekly", Retention{Weekly: 4}, days, []string{"9", "7", "4", "3"}},
		{"weekly over the year's end", Retention{Weekly: 9}, days, []string{"9", "7", "4", "3", "2"}},
		{"monthly", Retention{Monthly: 4}, days, []string{"9", "5", "3", "2"}},
		{"together", Retention{Last: 1, Daily: 2, Monthly: 3}, days, []string{"9", "7", "5", "3"}},
		{"forget beside a rule", Retention{Daily: 2, Forget: []string{"7", "8"}}, days, []string{"9"}},
		{"forget alone", Retention{Forget: []string{"7", "1"}}, days, []string{"9", "8", "6", "5", "4", "3", "2"}},
		{"conflicts stay", Retention{Last: 1}, beside, []string{"2", "2-01234567", "1-abcdefgh"}},
		{"until they are forgotten", Retention{Last: 1, Forget: []string{"2-01234567", "1-abcdefgh"}}, beside, []string{"2"}},
		{"none", Retention{Last: 1}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept, dropped, err := tt.keep.choose(tt.all)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, namesOf(kept)); diff != "" {
				t.Errorf("kept, -want +got:\n%s", diff)
			}
			if got, want := len(kept)+len(dropped), len(tt.all); got != want {
				t.Errorf("kept and dropped: got %d, want %d", got, want)
			}
		})
	}
}

func TestRetentionRefuses(t *testing.T) {
	all := dated("2026-03-02 12:00", "2026-03-01 12:00")
	for name, keep := range map[string]Retention{
		"to forget the newest": {Forget: []string{"2"}},
		"an unknown name":      {Forget: []string{"7"}},
		"the name of none":     {Forget: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			if kept, dropped, err := keep.choose(all); err == nil || kept != nil || dropped != nil {
				t.Errorf("got %v and %v, %v, want an error alone", kept, dropped, err)
			}
		})
	}
}

func TestMarkStrays(t *testing.T) {
	// at makes a snapshot, with the epoch and number of its parent.
	at := func(epoch, seq, parentEpoch, parentSeq uint64) Snapshot {
		return Snapshot{Epoch: epoch, Seq: seq, Parent: Snapshot{Epoch: parentEpoch, Seq: parentSeq}.key()}
	}
	aside := Snapshot{Epoch: 1, Seq: 2, Mount: "m", Conflict: true}
	for _, tt := range []struct {
		name string
		all  []Snapshot
		want []bool // whether each is a conflict
	}{
		{"none", nil, nil},
		{"one", []Snapshot{at(1, 1, 0, 0)}, []bool{false}},
		{"a line", []Snapshot{at(3, 3, 1, 2), at(1, 2, 1, 1), at(1, 1, 0, 0)}, []bool{false, false, false}},
		{"a line whose end was pruned", []Snapshot{at(3, 3, 1, 2), at(1, 2, 1, 1)}, []bool{false, false}},
		{"late, of the epoch before", []Snapshot{at(2, 2, 1, 1), at(1, 2, 1, 1), at(1, 1, 0, 0)}, []bool{false, true, false}},
		{"late, in a new profile", []Snapshot{at(2, 1, 0, 0), at(1, 1, 0, 0)}, []bool{false, true}},
		{"late, and gone on from", []Snapshot{at(2, 3, 1, 2), at(1, 2, 1, 1), at(1, 1, 0, 0)}, []bool{false, false, false}},
		{"late, several", []Snapshot{at(4, 2, 1, 1), at(3, 2, 1, 1), at(2, 3, 2, 2), at(2, 2, 1, 1), at(1, 1, 0, 0)}, []bool{false, true, true, true, false}},
		{"late, and what it continues was pruned", []Snapshot{at(2, 3, 2, 2), at(1, 2, 1, 1)}, []bool{false, false}},
		{"late, before a parent that was pruned", []Snapshot{at(2, 2, 1, 1), at(1, 2, 1, 1)}, []bool{false, true}},
		{"older than a gap", []Snapshot{at(1, 9, 1, 8), at(1, 5, 1, 4), at(1, 4, 1, 3)}, []bool{false, false, false}},
		{"in a circle", []Snapshot{at(1, 2, 1, 1), at(1, 1, 1, 2)}, []bool{false, false}},
		{"with conflicts", []Snapshot{at(2, 2, 1, 1), at(1, 1, 0, 0), aside}, []bool{false, false, true}},
		{"conflicts alone", []Snapshot{aside}, []bool{true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []bool
			for i, s := range markStrays(tt.all) {
				got = append(got, s.Conflict)
				if s.stray && s.lies() != (Snapshot{Epoch: s.Epoch, Seq: s.Seq}).Key() {
					t.Errorf("snapshot %d lies at %s", i, s.lies())
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("conflicts, -want +got:\n%s", diff)
			}
		})
	}
}
