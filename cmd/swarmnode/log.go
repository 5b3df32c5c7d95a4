package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// log makes the logger of a command: readable lines on stderr.
func (a *app) log() *slog.Logger {
	level, err := parseLevel(a.logLevel)
	if err != nil {
		panic(err) // settle has checked it
	}
	return slog.New(&lineHandler{out: a.console, level: level})
}

// lineHandler writes a record as a line for people: "15:04:05 warning: message (key value, key value)".
type lineHandler struct {
	out    io.Writer // one Write for each line
	level  slog.Level
	prefix string // of keys, from groups
	attrs  string // from With
}

// Enabled reports whether records of a level are written.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle writes a record.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Time.Format("15:04:05 ") + levelWord(r.Level))
	b.WriteString(strings.ReplaceAll(r.Message, "\n", " "))
	attrs := h.attrs
	r.Attrs(func(a slog.Attr) bool {
		attrs += h.text(a)
		return true
	})
	if attrs != "" {
		b.WriteString(" (" + strings.TrimPrefix(attrs, ", ") + ")")
	}
	b.WriteByte('\n')
	_, err := io.WriteString(h.out, b.String())
	return err
}

// levelWord begins a line that is not just information.
func levelWord(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error: "
	case l >= slog.LevelWarn:
		return "warning: "
	case l < slog.LevelInfo:
		return "debug: "
	}
	return ""
}

func (h *lineHandler) text(a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	return ", " + h.prefix + a.Key + " " + oneLine(a.Value.Resolve().String())
}

// oneLine keeps a value from being taken for more lines, or for orders to the terminal.
func oneLine(value string) string {
	if strings.ContainsAny(value, "\n\t") || harmless(value) != value {
		return fmt.Sprintf("%q", value)
	}
	return value
}

// WithAttrs gives a handler that adds attributes to each record.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	for _, a := range attrs {
		n.attrs += n.text(a)
	}
	return &n
}

// WithGroup gives a handler that puts a name before the keys.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.prefix += name + "."
	return &n
}
