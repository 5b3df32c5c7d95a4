package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"swarmnode/node/spool"
)

const (
	// lineEvery is how often a line of progress is printed where there is no terminal.
	lineEvery = 10 * time.Second
	// rateOver is the time over which the rate that is shown is averaged.
	rateOver = 3 * time.Second
	barWidth = 40
)

// console is stderr. What is written while a bar is shown appears above it. Whoever reads it holds up nobody: a node must not stand
// still because its log does.
type console struct {
	*spool.Queue // takes a whole line or more
	out          io.Writer
	terminal     bool
	journal      bool // it is the journal of systemd, which notes the time and the level of each line

	mu   sync.Mutex // guards all below
	bars *mpb.Progress
	json bool // lines are those of --log-format json
}

func newConsole(out io.Writer) *console {
	c := &console{out: out, terminal: isTerminal(out)}
	c.Queue = spool.New(above{c}, c.lost)
	if out == io.Writer(os.Stderr) {
		c.journal, _ = journal.StderrIsJournalStream() // what cannot be found out is not the journal
	}
	return c
}

// above writes the lines of a console, above the bars.
type above struct{ *console }

// Write writes a whole line or more. One goroutine calls it at a time.
func (c above) Write(b []byte) (int, error) {
	c.mu.Lock()
	bars := c.bars
	c.mu.Unlock()
	to := c.out
	if c.terminal {
		to = plain{to}
		if bars != nil {
			if _, err := (plain{bars}).Write(b); err == nil {
				return len(b), nil
			} // the bars have just ended
		}
	}
	return to.Write(b)
}

// lost is the line that stands where lines are missing.
func (c *console) lost(lines int) string {
	var b strings.Builder
	var h slog.Handler = &lineHandler{out: &b, level: slog.LevelWarn, undated: c.journal}
	c.mu.Lock()
	if c.json {
		h = newJSONHandler(&b, slog.LevelWarn)
	}
	c.mu.Unlock()
	b.WriteString(c.rank(slog.LevelWarn))
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines were left out here: whoever reads the standard error of this program was too slow; `swarmnode logs` may have them", 0)
	r.AddAttrs(slog.Int("lost_before", lines))
	if err := h.Handle(context.Background(), r); err != nil {
		panic("a line for a builder of strings: " + err.Error()) // that never fails
	}
	return b.String()
}

func (c *console) show(bars *mpb.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bars = bars
}

// inJSON says how the lines are written.
func (c *console) inJSON(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.json = yes
}

// at is where some work stands.
type at struct {
	what        string // "fetching archive release 2"
	done, total int64  // bytes; total 0 as long as unknown
	more        string // "from 3 nodes"
}

// progress shows how some work gets on: a bar on a terminal, elsewhere a line every 10 s, nothing for scripts.
type progress struct {
	console *console
	quiet   bool
	started time.Time

	mu      sync.Mutex // guards all below
	at      at
	bars    *mpb.Progress // nil until there is something to show, and where there is no terminal
	bar     *mpb.Bar
	printed time.Time // of the last line
	rate    rate
}

// newProgress makes a progress; quiet shows nothing.
func (a *app) newProgress(quiet bool) *progress {
	now := time.Now()
	return &progress{console: a.console, quiet: quiet || a.logFormat == formatJSON, started: now, printed: now}
}

// update says where the work stands now.
func (p *progress) update(s at) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	now := time.Now()
	if s.what != p.at.what {
		p.rate = rate{}
	}
	p.at = s
	p.rate.add(now, s.done)
	if p.console.terminal {
		p.draw()
		p.mu.Unlock()
		return
	}
	line := ""
	if now.Sub(p.printed) >= lineEvery {
		p.printed = now
		line = p.text() + "\n"
	}
	p.mu.Unlock()
	if line != "" {
		io.WriteString(p.console, line) //nolint:errcheck // nobody is left to tell
	}
}

// draw moves the bar. The caller holds p.mu.
func (p *progress) draw() {
	if p.bar == nil {
		p.bars = mpb.New(mpb.WithOutput(p.console.out), mpb.WithWidth(barWidth))
		p.bar = p.bars.AddBar(0, mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return " " + harmless(p.text()) // names in it are others'
		})))
		p.console.show(p.bars)
	}
	bar, s := p.bar, p.at
	p.mu.Unlock() // the bar may be waiting for text
	bar.SetTotal(max(s.total, s.done+1), false)
	bar.SetCurrent(s.done)
	p.mu.Lock()
}

// text is the line that is shown. The caller holds p.mu.
func (p *progress) text() string {
	s := p.at.what
	switch {
	case p.at.total > 0:
		s += fmt.Sprintf(": %s of %s", size(p.at.done), size(p.at.total))
	case p.at.done > 0:
		s += fmt.Sprintf(": %s", size(p.at.done))
	}
	if r := p.rate.perSecond(); r > 0 {
		s += fmt.Sprintf(", %s/s", size(r))
		if left := p.at.total - p.at.done; left > 0 {
			s += fmt.Sprintf(", %s left", brief(time.Duration(float64(left)/float64(r)*float64(time.Second))))
		}
	}
	if p.at.more != "" {
		s += ", " + p.at.more
	}
	return s
}

// end takes the bar away. It may be called twice; update shows a new bar.
func (p *progress) end() {
	p.mu.Lock()
	bars, bar := p.bars, p.bar
	p.bars, p.bar = nil, nil
	p.mu.Unlock()
	if bars == nil {
		return
	}
	p.console.Settle(unreadFor) // what was written above the bars
	p.console.show(nil)
	bar.Abort(true)
	ended := make(chan struct{})
	go func() {
		bars.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(unreadFor): // the terminal is stopped (Ctrl-S)
	}
}

// rate is the speed of the last seconds.
type rate struct {
	from, to         time.Time
	fromDone, toDone int64
	bytesPerSecond   float64
}

func (r *rate) add(now time.Time, done int64) {
	if r.from.IsZero() || done < r.toDone {
		*r = rate{from: now, fromDone: done, to: now, toDone: done}
		return
	}
	r.to, r.toDone = now, done
	if d := now.Sub(r.from); d >= rateOver {
		r.bytesPerSecond = float64(done-r.fromDone) / d.Seconds()
		r.from, r.fromDone = now, done
	}
}

func (r *rate) perSecond() int64 {
	if d := r.to.Sub(r.from); r.bytesPerSecond == 0 && d > time.Second {
		return int64(float64(r.toDone-r.fromDone) / d.Seconds())
	}
	return int64(r.bytesPerSecond)
}

// size writes a number of bytes for people.
func size[T int64 | uint64 | int](n T) string { return humanize.IBytes(uint64(max(n, 0))) }

// count writes a number of things: "1 file", "1,200 files".
func count[T int64 | uint64 | int](n T, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + one + "s"
}

// brief writes a duration for people: "340 ms", "4.2 s", "3m20s".
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func seconds(s float64) string { return brief(time.Duration(s * float64(time.Second))) }
