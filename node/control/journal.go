package control

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keptRecords is how many records a Journal keeps, and as many again of those below Info: some days of a quiet node.
	keptRecords = 1000
	// maxRecordText is the most bytes of one record, so that all of them are a few MiB at worst.
	maxRecordText = 2 << 10
	// recordsAhead is how many records a follower may be behind before some are left out.
	recordsAhead = 256
	// LevelTold is the level of what the commands that run a node tell in words of their own, too: that it runs, that a release is
	// served. It counts as Info, but for lines that stand beside those words.
	LevelTold = slog.LevelInfo - 1
)

// LogRecord is one record of a node's log. The last one of a stream has only End.
type LogRecord struct {
	Time    time.Time  `json:"time,omitzero"`
	Level   slog.Level `json:"level"`
	Message string     `json:"message,omitempty"`
	Attrs   []LogAttr  `json:"attrs,omitempty"`
	Lost    int        `json:"lost,omitempty"` // records left out before this one, because the reader was slow
	End     bool       `json:"end,omitempty"`  // no more follows: the node stops, or no more was asked for

	number uint64 // in the order of arrival
}

// LogAttr is a fact of a record.
type LogAttr struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Plain bool   `json:"plain,omitempty"` // a number or a truth value, as JSON writes it
}

// PlainAttr writes a fact in the one way of all logs: numbers and truth values as they are, times as RFC 3339 has them, all else as
// text. It is what slog.HandlerOptions call ReplaceAttr.
func PlainAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64:
		a.Value = v
	case slog.KindFloat64:
		if a.Value = v; math.IsNaN(v.Float64()) || math.IsInf(v.Float64(), 0) { // JSON has no word for these
			a.Value = slog.StringValue(v.String())
		}
	case slog.KindTime:
		a.Value = slog.StringValue(v.Time().UTC().Format(time.RFC3339))
	default:
		a.Value = slog.StringValue(v.String())
		if t, ok := v.Any().(time.Time); ok { // in a pointer or an interface
			a.Value = slog.StringValue(t.UTC().Format(time.RFC3339))
		}
	}
	return a
}

// Journal is a slog.Handler that keeps the newest records in memory for those who ask, and hands them on to another handler. Records
// below Info are kept if the other handler wants them, or somebody follows that level.
type Journal struct {
	*pages
	next   slog.Handler
	prefix string // of keys, from groups
	attrs  []LogAttr
}

// pages are the records of a Journal and of all that With made of it.
type pages struct {
	least atomic.Int64 // the lowest level that somebody follows

	mu        sync.Mutex // guards all below
	count     uint64
	records   []LogRecord // Info and above, the oldest first once it is full
	details   []LogRecord // below Info
	followers map[*follower]struct{}
}

// follower is somebody who reads on.
type follower struct {
	level slog.Level
	out   chan LogRecord
	lost  int
}

// NewJournal makes an empty Journal in front of next.
func NewJournal(next slog.Handler) *Journal {
	j := &Journal{pages: &pages{followers: map[*follower]struct{}{}}, next: next}
	j.least.Store(math.MaxInt64)
	return j
}

// Enabled reports whether anybody wants records of a level.
func (j *Journal) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= LevelTold || int64(l) >= j.least.Load() || j.next.Enabled(ctx, l)
}

// Handle keeps a record and hands it on.
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	rec := LogRecord{Time: r.Time, Level: r.Level, Message: r.Message, Attrs: slices.Clone(j.attrs)}
	r.Attrs(func(a slog.Attr) bool {
		rec.Attrs = append(rec.Attrs, j.attr(a)...)
		return true
	})
	rec.fit()
	if rec.Level == LevelTold {
		rec.Level = slog.LevelInfo
	}
	j.add(rec)
	if !j.next.Enabled(ctx, r.Level) {
		return nil
	}
	return j.next.Handle(ctx, r)
}

// fit cuts what is too long for a record.
func (r *LogRecord) fit() {
	room := maxRecordText
	cut := func(s string) string {
		if len(s) > room {
			s = s[:room] + "…"
		}
		room -= min(len(s), room)
		return s
	}
	r.Message = cut(r.Message)
	for i := range r.Attrs {
		if room == 0 {
			r.Attrs = slices.Clip(r.Attrs[:i])
			return
		}
		a := r.Attrs[i]
		r.Attrs[i] = LogAttr{cut(a.Key), cut(a.Value), a.Plain && len(a.Value) <= room}
	}
}

func (j *Journal) attr(a slog.Attr) []LogAttr {
	if a.Equal(slog.Attr{}) {
		return nil
	}
	a = PlainAttr(nil, a)
	return []LogAttr{{j.prefix + a.Key, a.Value.String(), a.Value.Kind() != slog.KindString}} // PlainAttr leaves no other kinds
}

// WithAttrs gives a handler of the same Journal that adds attributes to each record.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *j
	n.next, n.attrs = j.next.WithAttrs(attrs), slices.Clone(j.attrs)
	for _, a := range attrs {
		n.attrs = append(n.attrs, j.attr(a)...)
	}
	return &n
}

// WithGroup gives a handler of the same Journal that puts a name before the keys.
func (j *Journal) WithGroup(name string) slog.Handler {
	n := *j
	n.next, n.prefix = j.next.WithGroup(name), j.prefix+name+"."
	return &n
}

func (p *pages) add(r LogRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	r.number = p.count
	page := &p.records
	if r.Level < slog.LevelInfo {
		page = &p.details
	}
	if len(*page) == keptRecords {
		copy(*page, (*page)[1:])
		*page = (*page)[:keptRecords-1]
	}
	*page = append(*page, r)
	for f := range p.followers {
		if r.Level < f.level {
			continue
		}
		told := r
		told.Lost = f.lost
		select {
		case f.out <- told:
			f.lost = 0
		default:
			f.lost++
		}
	}
}

// last gives the newest records of a level and above, at most n, the oldest first.
func (p *pages) last(level slog.Level, n int) []LogRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest(level, n)
}

// Each gives the newest n records of a level and above, the oldest first, until an error.
func (j *Journal) Each(level slog.Level, n int, each func(LogRecord) error) error {
	for _, r := range j.last(level, n) {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// newest is last. The caller holds mu.
func (p *pages) newest(level slog.Level, n int) []LogRecord {
	list := slices.DeleteFunc(slices.Concat(p.records, p.details), func(r LogRecord) bool { return r.Level < level })
	slices.SortFunc(list, func(a, b LogRecord) int { return cmp.Compare(a.number, b.number) })
	return list[max(0, len(list)-n):]
}

// follow gives the newest records and what comes after them, until stop is called.
func (p *pages) follow(level slog.Level, n int) (before []LogRecord, after <-chan LogRecord, stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &follower{level: level, out: make(chan LogRecord, recordsAhead)}
	p.followers[f] = struct{}{}
	p.lower()
	return p.newest(level, n), f.out, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.followers, f)
		p.lower()
	}
}

// lower notes the lowest level that somebody follows. The caller holds mu.
func (p *pages) lower() {
	least := int64(math.MaxInt64)
	for f := range p.followers {
		least = min(least, int64(f.level))
	}
	p.least.Store(least)
}
