package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// report is all that was found.
type report struct {
	Machine  string     `json:"machine"`
	Latency  float64    `json:"latency_ms"`
	Corpora  []*corpus  `json:"corpora"`
	Measures []*measure `json:"measures"`
	Failed   []string   `json:"failed"`
}

// measure is a line of the table.
type measure struct {
	Row    string               `json:"row"`
	What   string               `json:"what"`
	Unit   string               `json:"unit"` // "s", "MB" or ""
	Values map[string][]float64 `json:"values"`
	Aim    string               `json:"aim,omitempty"`
	Is     string               `json:"is,omitempty"` // what is to be compared with the aim
	Met    *bool                `json:"met,omitempty"`
	Notes  []string             `json:"notes,omitempty"`

	b *bench
}

func (b *bench) measure(what, unit string) *measure {
	m := &measure{Row: b.row, What: what, Unit: unit, Values: map[string][]float64{}, b: b}
	b.report.Measures = append(b.report.Measures, m)
	return m
}

// add takes one run's value.
func (m *measure) add(who string, value float64) {
	m.Values[who] = append(m.Values[who], value)
	m.b.say("%s: %s: %s", m.What, who, m.format(value))
}

func (m *measure) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	m.b.say("%s: %s", m.What, note)
	if !slices.Contains(m.Notes, note) {
		m.Notes = append(m.Notes, note)
	}
}

func (m *measure) format(value float64) string {
	switch {
	case m.Unit == "":
		return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0")
	case m.Unit == "s" && value < 10:
		return fmt.Sprintf("%.2f s", value)
	case m.Unit == "MB" && value < 10:
		return fmt.Sprintf("%.3f MB", value)
	}
	return fmt.Sprintf("%.0f %s", value, m.Unit)
}

// median of what was added for somebody.
func (m *measure) median(who string) (float64, bool) {
	values := slices.Sorted(slices.Values(m.Values[who]))
	if len(values) == 0 {
		return 0, false
	}
	return values[len(values)/2], true
}

// aim compares value with what it should be: at most limit or, with least, at least.
func (m *measure) aim(aim string, value, limit float64, least bool, is string) {
	met := value <= limit
	if least {
		met = value >= limit
	}
	m.Aim, m.Is, m.Met = aim, is, &met
}

// atMost is the aim for valise itself.
func (m *measure) atMost(limit float64) {
	aim := "≤ " + m.format(limit)
	if is, ok := m.median("valise"); ok {
		m.aim(aim, is, limit, false, m.format(is))
	} else {
		m.Aim = aim
	}
}

// fasterThan says how many times faster than a peer valise shall be.
func (m *measure) fasterThan(peer string, times float64) {
	aim := fmt.Sprintf("≥ %g × faster than %s", times, peer)
	is, ok := m.median("valise")
	other, there := m.median(peer)
	if m.Aim = aim; ok && there {
		m.aim(aim, other/is, times, true, fmt.Sprintf("%.1f ×", other/is))
	}
}

// timesOf says how many times as long as on a plain disk it may take.
func (m *measure) timesOf(limit string, times float64) {
	aim := fmt.Sprintf("≤ %g × %s", times, limit)
	is, ok := m.median("valise")
	other, there := m.median(limit)
	if m.Aim = aim; ok && there {
		m.aim(aim, is/other, times, false, fmt.Sprintf("%.2f ×", is/other))
	}
}

// columns are those of the table that have any value.
func (r *report) columns() []string {
	var out []string
	for _, who := range []string{"valise", "rclone", "s3fs", "ext4"} {
		if slices.ContainsFunc(r.Measures, func(m *measure) bool { return len(m.Values[who]) > 0 }) {
			out = append(out, who)
		}
	}
	return out
}

// table prints the report for a page.
func (r *report) table(w io.Writer) {
	columns := r.columns()
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	for _, c := range r.Corpora {
		fmt.Fprintf(w, "* %v\n", c)
	}
	fmt.Fprintf(w, "\n| | %s | aim | |\n|---%s|---|---|\n", strings.Join(columns, " | "), strings.Repeat("|--:", len(columns)))
	for _, m := range r.Measures {
		fmt.Fprintf(w, "| %s |", m.What)
		for _, who := range columns {
			value := ""
			if median, ok := m.median(who); ok {
				value = m.format(median)
			}
			fmt.Fprintf(w, " %s |", value)
		}
		verdict := ""
		switch {
		case m.Met != nil && *m.Met:
			verdict = "met: " + m.Is
		case m.Met != nil:
			verdict = "**missed**: " + m.Is
		case m.Aim != "":
			verdict = "not measured"
		}
		fmt.Fprintf(w, " %s | %s |\n", m.Aim, verdict)
	}
	fmt.Fprintln(w)
	for _, m := range r.Measures {
		for _, note := range m.Notes {
			fmt.Fprintf(w, "* %s: %s\n", m.What, note)
		}
	}
	for _, failed := range r.Failed {
		fmt.Fprintf(w, "* FAILED: %s\n", failed)
	}
}

func (r *report) write(name string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}
