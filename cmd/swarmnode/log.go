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
	b.WriteString(r.Time.Format("15:04:05 "))
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString("error: ")
	case r.Level >= slog.LevelWarn:
		b.WriteString("warning: ")
	case r.Level < slog.LevelInfo:
		b.WriteString("debug: ")
	}
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

func (h *lineHandler) text(a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	value := a.Value.Resolve().String()
	if strings.ContainsAny(value, "\n\r\t\x1b") {
		value = fmt.Sprintf("%q", value)
	}
	return ", " + h.prefix + a.Key + " " + value
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
