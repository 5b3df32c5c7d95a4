package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"swarmnode/node/control"
)

func TestHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"PEER\tADDRESS\nمرحبا 👩‍🚀\n":    "PEER\tADDRESS\nمرحبا 👩‍🚀\n",
		"a\x1b[2Jb\rc\bd\x00":           "a\uFFFD[2Jb\uFFFDc\uFFFDd\uFFFD",
		"\u009b31m\u0085\x7f":           "\uFFFD31m\uFFFD\uFFFD",
		"\x9b31m":                       "\uFFFD31m",
		"safe\u202egpj.exe\u2066\u200f": "safe\uFFFDgpj.exe\uFFFD\uFFFD",
	} {
		var b strings.Builder
		if n, err := (plain{&b}).Write([]byte(text)); n != len(text) || err != nil || b.String() != want {
			t.Errorf("%q: wrote %q, %d, %v, want %q", text, b.String(), n, err, want)
		}
	}
}

// full is a file on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWhatIsNotWrittenIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"config", "example"}, {"metrics", "list"}, {"version"}, {"help"}} {
		var stderr strings.Builder
		if code := run(t.Context(), args, nil, full{}, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%q: exit %d, %q, want %d and why", args, code, stderr.String(), exitFailed)
		}
	}
}

// A value in the log is one line and gives no orders, wherever the log is read.
func TestLogGivesNoOrders(t *testing.T) {
	for _, value := range []string{"a\x1b[2J", "a\nwarning: b", "\u009b31m", "\x9b31m", "safe\u202egpj.exe", "a\bb"} {
		var b strings.Builder
		slog.New(&lineHandler{out: &b}).Info("m", "name", value)
		line := recordLine(control.LogRecord{Time: time.Now(), Message: "m", Attrs: []control.LogAttr{{Key: "name", Value: value}}})
		for _, got := range []string{b.String(), line} {
			if text := strings.TrimSuffix(got, "\n"); strings.ContainsFunc(text, orders) || strings.Contains(text, "\n") || strings.Contains(text, "\x9b3") {
				t.Errorf("%q is logged as %q", value, got)
			}
		}
	}
	if got := oneLine("release 3 of Übungen: /srv/a b"); got != "release 3 of Übungen: /srv/a b" {
		t.Errorf("what is harmless became %q", got)
	}
}
