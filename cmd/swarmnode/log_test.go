package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/node/control"
)

// logged gives what a command writes for a few records.
func logged(t *testing.T, a *app, out *bytes.Buffer) []string {
	t.Helper()
	log := a.log().With("collection", content.NewID([]byte("root")))
	log.Debug("a detail")
	log.Log(t.Context(), control.LevelTold, "told elsewhere, too")
	log.Info("something", "release", 7, "fresh", true, "share", 0.5, "took", 90*time.Second, "expires", time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC))
	log.Warn("it broke: look at it", "error", fmt.Errorf("open x: %w", errors.New("two\nlines")), "file", "a\x1b[31m\u009b")
	a.note("a word")
	a.fail("the end")
	a.console.Flush(time.Minute)
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// What a program reads is JSON in each line, with the documented keys.
func TestLogJSON(t *testing.T) {
	var out bytes.Buffer
	a := &app{console: newConsole(&out), logLevel: "info", logFormat: formatJSON}
	lines := logged(t, a, &out)
	id := content.NewID([]byte("root")).String()
	want := []map[string]any{
		{"level": "INFO", "msg": "told elsewhere, too", "collection": id},
		{"level": "INFO", "msg": "something", "collection": id, "release": 7.0, "fresh": true, "share": 0.5, "took": "1m30s", "expires": "2026-11-23T01:02:03Z"},
		{"level": "WARN", "msg": "it broke: look at it", "collection": id, "error": "open x: two\nlines", "file": "a\x1b[31m\u009b"},
		{"level": "WARN", "msg": "a word"},
		{"level": "ERROR", "msg": "the end"},
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if at, err := time.Parse(logTime, fmt.Sprint(got["time"])); err != nil || time.Since(at) > time.Hour {
			t.Errorf("the time of %q: %v", line, err)
		}
		delete(got, "time")
		if fmt.Sprint(got) != fmt.Sprint(want[i]) {
			t.Errorf("got %v\nwant %v", got, want[i])
		}
	}
}

// `logs --json` writes a record as the node itself did.
func TestLogsAsTheNode(t *testing.T) {
	var direct, kept bytes.Buffer
	a := &app{console: newConsole(&direct), logLevel: "info", logFormat: formatJSON}
	journal := control.NewJournal(a.log().Handler())
	log := slog.New(journal).With("collection", content.NewID([]byte("root")))
	log.Log(t.Context(), control.LevelTold, "a release is served", "release", uint64(1<<63), "took", time.Second, "done", false, "part", 0.25, "name", "17", "error", errors.New("x"))
	log.Warn("it broke: look at it", "at", time.Unix(5, 6), "number", -3)
	if err := journal.Each(slog.LevelInfo, 10, func(r control.LogRecord) error { return jsonRecord(&kept, r) }); err != nil {
		t.Fatal(err)
	}
	a.console.Flush(time.Minute)
	if kept.String() != direct.String() || strings.Count(kept.String(), "\n") != 2 {
		t.Errorf("got\n%s\nwant\n%s", kept.String(), direct.String())
	}
}

// Lines for people have a time, but where the journal of systemd notes it; there they begin with their rank.
func TestLogText(t *testing.T) {
	for _, journal := range []bool{false, true} {
		var out bytes.Buffer
		a := &app{console: newConsole(&out), logLevel: "info", logFormat: formatText}
		a.console.journal = journal
		lines := logged(t, a, &out)
		id := content.NewID([]byte("root")).String()
		want := []string{
			"<6>something (collection " + id + ", release 7, fresh true, share 0.5, took 1m30s, expires 2026-11-23T01:02:03Z)",
			"<4>warning: it broke: look at it (collection " + id + `, error "open x: two\nlines", file "a\x1b[31m\u009b")`,
			"swarmnode: a word",
			"<3>swarmnode: the end",
		}
		if len(lines) != len(want) {
			t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
		}
		for i, line := range lines {
			if !journal {
				want[i] = strings.TrimLeft(want[i], "<346>")
				if i < 2 {
					if _, err := time.Parse("15:04:05 ", line[:9]); err != nil {
						t.Error(err)
					}
					line = line[9:]
				}
			}
			if line != want[i] {
				t.Errorf("got  %s\nwant %s", line, want[i])
			}
		}
	}
}
