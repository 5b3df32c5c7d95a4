package main

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"
)

// TestLines writes a record of each level to a terminal or file, and to systemd's journal, which has time and priority beside the line.
func TestLines(t *testing.T) {
	for _, c := range []struct {
		journal bool
		level   slog.Level
		want    string
	}{
		{false, slog.LevelDebug, `^\d\d:\d\d:\d\d debug: two words \(peer "a\\nb", part\.n 3\)\n$`},
		{false, slog.LevelInfo, `^\d\d:\d\d:\d\d two words \(peer "a\\nb", part\.n 3\)\n$`},
		{false, slog.LevelWarn, `^\d\d:\d\d:\d\d warning: two words \(`},
		{false, slog.LevelError, `^\d\d:\d\d:\d\d error: two words \(`},
		{true, slog.LevelDebug, `^<7>two words \(peer "a\\nb", part\.n 3\)\n$`},
		{true, slog.LevelInfo, `^<6>two words \(`},
		{true, slog.LevelWarn, `^<4>two words \(`},
		{true, slog.LevelError, `^<3>two words \(`},
	} {
		var out bytes.Buffer
		log := slog.New(&lineHandler{out: &out, level: slog.LevelDebug, journal: c.journal})
		log.With("peer", "a\nb").WithGroup("part").Log(t.Context(), c.level, "two\nwords", "n", 3)
		if !regexp.MustCompile(c.want).MatchString(out.String()) {
			t.Errorf("journal %v, %s: got %q, want %s", c.journal, c.level, out.String(), c.want)
		}
	}
}
