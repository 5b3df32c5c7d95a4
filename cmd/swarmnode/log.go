package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"swarmnode/node/control"
)

// The values of --log-format.
const (
	formatText = "text" // a line for people
	formatJSON = "json" // an object in a line, for programs
)

// log makes the logger of a command, on stderr.
func (a *app) log() *slog.Logger {
	level, err := parseLevel(a.logLevel)
	if err != nil {
		panic(err) // settle has checked it
	}
	if a.logFormat == formatJSON {
		if level == slog.LevelInfo {
			level = control.LevelTold // here nothing else tells it
		}
		return slog.New(a.console.ranked(func(out io.Writer) slog.Handler { return newJSONHandler(out, level) }))
	}
	return slog.New(a.console.ranked(func(out io.Writer) slog.Handler {
		return &lineHandler{out: out, level: level, undated: a.console.journal}
	}))
}

// note tells the person or the log what is no failure but should be known.
func (a *app) note(text string) {
	if a.logFormat == formatJSON {
		a.log().Warn(text)
		return
	}
	fmt.Fprintf(a.console, "swarmnode: %s\n", text)
}

// fail tells with what error the command ends.
func (a *app) fail(text string) {
	if a.logFormat == formatJSON {
		slog.New(a.console.ranked(func(out io.Writer) slog.Handler { return newJSONHandler(out, slog.LevelError) })).Error(text)
		return
	}
	rank := a.console.rank(slog.LevelError)
	fmt.Fprintf(a.console, "%sswarmnode: %s\n", rank, strings.ReplaceAll(text, "\n", "\n"+rank))
}

// newJSONHandler writes a record as one object in a line, with the keys time, level and msg, and a key for each fact.
func newJSONHandler(out io.Writer, level slog.Level) slog.Handler {
	return slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0 || a.Key != slog.TimeKey && a.Key != slog.LevelKey:
			return control.PlainAttr(groups, a)
		case a.Key == slog.TimeKey:
			a.Value = slog.StringValue(a.Value.Time().UTC().Format(logTime))
		case a.Value.Any() == control.LevelTold:
			a.Value = slog.StringValue(slog.LevelInfo.String())
		}
		return a
	}})
}

// logTime is how a record in JSON tells its time: RFC 3339 in UTC, with as many digits each time, so that sorting lines sorts times.
const logTime = "2006-01-02T15:04:05.000000Z"

// jsonRecord writes a record of the running node as --log-format json does.
func jsonRecord(out io.Writer, r control.LogRecord) error {
	facts := make([]slog.Attr, 0, len(r.Attrs))
	for _, x := range r.Attrs {
		value := slog.StringValue(x.Value)
		if x.Plain {
			value = plainValue(x.Value)
		}
		facts = append(facts, slog.Attr{Key: x.Key, Value: value})
	}
	if r.Lost > 0 {
		facts = append(facts, slog.Int("lost_before", r.Lost))
	}
	rec := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	rec.AddAttrs(facts...)
	return newJSONHandler(out, slog.LevelDebug).Handle(context.Background(), rec)
}

// plainValue reads a number or a truth value back.
func plainValue(text string) slog.Value {
	if b, err := strconv.ParseBool(text); err == nil && len(text) > 1 { // "1" is a number
		return slog.BoolValue(b)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return slog.Int64Value(n)
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return slog.Uint64Value(n)
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return slog.Float64Value(f)
	}
	return slog.StringValue(text) // of a node of another version
}

// lineHandler writes a record as a line for people: "15:04:05 warning: message (key value, key value)".
type lineHandler struct {
	out     io.Writer // one Write for each line
	level   slog.Level
	undated bool   // whoever reads the lines notes the time of each
	prefix  string // of keys, from groups
	attrs   string // from With
}

// Enabled reports whether records of a level are written.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle writes a record.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if !h.undated {
		b.WriteString(r.Time.Format(time.TimeOnly + " "))
	}
	b.WriteString(levelWord(r.Level))
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
	case l < control.LevelTold:
		return "debug: "
	}
	return ""
}

func (h *lineHandler) text(a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	return ", " + h.prefix + a.Key + " " + oneLine(control.PlainAttr(nil, a).Value.String())
}

// oneLine keeps a value from being taken for more lines, for orders to the terminal, or for none.
func oneLine(value string) string {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) || harmless(value) != value {
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
