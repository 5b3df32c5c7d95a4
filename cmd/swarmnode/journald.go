package main

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"swarmnode/node/control"
)

// rank is what a line begins with from which the journal learns how grave it is (sd-daemon(3)); "" for who reads it otherwise.
func (c *console) rank(l slog.Level) string {
	if !c.journal {
		return ""
	}
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= control.LevelTold:
		return "<6>"
	}
	return "<7>"
}

// ranked makes a handler that writes to the console, each line with its rank.
func (c *console) ranked(make func(io.Writer) slog.Handler) slog.Handler {
	out := &rankedWriter{console: c}
	return &rankedHandler{make(out), out}
}

// rankedWriter is the console with a rank before each write, which is a line.
type rankedWriter struct {
	console *console

	mu   sync.Mutex // guards rank, while a record is handled
	rank string
}

// Write writes a line. The caller holds mu.
func (w *rankedWriter) Write(b []byte) (int, error) {
	if _, err := w.console.Write(append([]byte(w.rank), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// rankedHandler has each record written by a handler on a rankedWriter.
type rankedHandler struct {
	slog.Handler
	out *rankedWriter
}

// Handle writes a record.
func (h *rankedHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.rank = h.out.console.rank(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs gives a handler that adds attributes to each record.
func (h *rankedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &rankedHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup gives a handler that puts a name before the keys.
func (h *rankedHandler) WithGroup(name string) slog.Handler {
	return &rankedHandler{h.Handler.WithGroup(name), h.out}
}
