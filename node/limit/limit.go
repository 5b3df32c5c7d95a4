// Package limit holds a node to what its operator gives: so many bytes a second to others and from them, over all protocols
// together, and so many in a calendar month; what it is handed is counted with the headers that go with it. What is decided is in package policy ([policy.Ration], [policy.Schedule],
// [policy.Months]); here are the clock, those who wait, and the file that remembers the month. Others meet a [Limiter] through
// interfaces of their own.
package limit

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/node/policy"
)

const (
	// lookEvery is how often the schedule and the month are looked at. A change has to act within 5 s.
	lookEvery = time.Second
	// freePiece is how much is granted at a time without a limit, so that one that is set meanwhile acts soon. At 10 Gbit/s that is
	// every 200 µs.
	freePiece = 256 << 10
	// headerShare is the part of the bytes handed in, one in so many, that is added for what nobody sees who writes to a connection:
	// headers of IP and TCP (52 bytes to 1448), of TLS and streams, acknowledgements, what is sent twice. On a wire with packets of
	// 1500 bytes it is 3.8-4.3 % (.ci/e2e/figures-limits.sh).
	headerShare = 25
	// talkHeaders and talkAnswer are what a piece of talk takes on top of itself: most are alone in a packet, with headers of IP, TCP, TLS
	// and a stream, which is acknowledged by itself, and there are pings and windows between them.
	talkHeaders, talkAnswer = 104, 52
	// retryAtMost is the longest that somebody is told to stay away when the month's bytes are used up: the operator may give more.
	retryAtMost = time.Hour
)

// localNetworks are the networks that are not limited unless the operator says which: private (RFC 1918, RFC 4193), link-local and this
// machine itself.
var localNetworks = [...]string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"}

// LocalNetworks lists the networks that are not limited by default.
func LocalNetworks() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range localNetworks {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// ParseNetworks reads networks that are not to be limited, such as 192.168.0.0/16; none for no network at all.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	list := []netip.Prefix{}
	for _, text := range texts {
		if text == "none" && len(texts) == 1 {
			return list, nil
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network: write it like 192.168.0.0/16 or fd00::/8, or none", text)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// Config says what is given. The zero value limits nothing and remembers nothing.
type Config struct {
	Limits   policy.Limits
	Schedule policy.Schedule
	LAN      []netip.Prefix   // not limited and not counted; nil: LocalNetworks
	File     string           // remembers the month; "" is not at all
	Now      func() time.Time // default time.Now; the schedule goes by its time zone
	Changed  func()           // what Closed says has changed; may be nil
	Log      *slog.Logger     // default: discard
}

// Limiter is safe for concurrent use. Its Run has to run for the schedule and the month to count.
type Limiter struct {
	cfg      Config
	up, down line
	closed   atomic.Bool // as it was told last

	sent, received atomic.Int64 // not in months yet
	before         atomic.Int64 // sent this month, without sent
	monthly        atomic.Int64 // 0: no limit

	mu     sync.Mutex // guards all below
	given  policy.Limits
	now    policy.Limits // with the schedule
	why    []string      // entries of the schedule that hold
	months policy.Months
	file   file
}

// New makes one, with the months that the file remembers. A file that cannot be read is an error: the month would begin at 0.
func New(cfg Config) (*Limiter, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.LAN == nil {
		cfg.LAN = LocalNetworks()
	}
	l := &Limiter{cfg: cfg, given: cfg.Limits, file: file{path: cfg.File}}
	l.up, l.down = newLine(cfg.Now), newLine(cfg.Now)
	var err error
	if l.months, err = l.file.read(); err != nil {
		return nil, err
	}
	l.look()
	return l, nil
}

// Local reports whether an address is in the local network: nothing is limited there.
func (l *Limiter) Local(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(l.cfg.LAN, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Send waits until some of n bytes may be sent to an address and says how many. Its error is that of ctx.
func (l *Limiter) Send(ctx context.Context, to netip.Addr, n int) (int, error) {
	if n <= 0 || l.Local(to) {
		return n, nil
	}
	n, err := l.up.take(ctx, to, n)
	l.sent.Add(onWire(n))
	return n, err
}

// Receive waits until n bytes that have come from an address may have come. Its error is that of ctx.
func (l *Limiter) Receive(ctx context.Context, from netip.Addr, n int) error {
	if n <= 0 || l.Local(from) {
		return nil
	}
	l.received.Add(onWire(n))
	return l.down.takeAll(ctx, from, n)
}

// Spend counts what has moved to or from an address outside of [Limiter.Send] and [Limiter.Receive]: what nodes say to each other so
// that the swarm holds together. It never waits; those who send and receive wait for it.
func (l *Limiter) Spend(addr netip.Addr, sent, received int) {
	if l.Local(addr) {
		return
	}
	out, in := 0, 0
	if sent > 0 {
		out, in = sent+talkHeaders, talkAnswer
	}
	if received > 0 {
		out, in = out+talkAnswer, in+received+talkHeaders
	}
	l.sent.Add(int64(out))
	l.received.Add(int64(in))
	l.up.spend(out)
	l.down.spend(in)
}

// onWire is how many bytes pass when n are handed to a connection.
func onWire(n int) int64 { return int64(n) + (int64(n)+headerShare-1)/headerShare }

// handed is what may be handed to connections for a rate to pass; 0: no limit.
func handed(rate policy.Rate) int64 { return int64(rate) / (headerShare + 1) * headerShare }

// Closed reports whether an address gets nothing any more since the bytes of this month are used up, and when it had better ask again.
func (l *Limiter) Closed(to netip.Addr) (after time.Duration, closed bool) {
	if !l.Over() || l.Local(to) {
		return 0, false
	}
	now := l.cfg.Now()
	return min(max(policy.MonthEnds(now).Sub(now), time.Second), retryAtMost), true
}

// Over reports whether the bytes of this month are used up.
func (l *Limiter) Over() bool {
	monthly := l.monthly.Load()
	return monthly > 0 && l.before.Load()+l.sent.Load() >= monthly
}

// Set changes limits by their names, as [policy.Limits.Set] has them, all or none; they hold until the end of the process.
func (l *Limiter) Set(values map[string]string) error {
	l.mu.Lock()
	changed := l.given
	var err error
	for _, name := range policy.LimitNames() {
		if v, ok := values[name]; ok && err == nil {
			err = changed.Set(name, v)
		}
	}
	for name := range values {
		if !slices.Contains(policy.LimitNames(), name) && err == nil {
			err = changed.Set(name, "")
		}
	}
	if err == nil {
		l.given = changed
	}
	l.mu.Unlock()
	if err == nil {
		l.look()
	}
	return err
}

// Stats is how a Limiter stands.
type Stats struct {
	Given    policy.Limits // by flags, or since
	Now      policy.Limits // with the schedule
	Schedule []string      // its entries that hold now
	Month    policy.Month
	Ends     time.Time // of the month
	Over     bool      // nothing more is given in it
	Waiting  int       // that want to send
}

// Stats gives the figures.
func (l *Limiter) Stats() Stats {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	return Stats{Given: l.given, Now: l.now, Schedule: slices.Clone(l.why), Month: *l.months.At(now), Ends: policy.MonthEnds(now), Over: l.Over(), Waiting: l.up.waiting()}
}

// Run looks at the schedule and the month until ctx ends, and remembers the month.
func (l *Limiter) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.look()
			l.remember(func() error { return l.file.write(l.months, 0) })
			return nil
		case <-tick.C:
			l.look()
			l.remember(func() error { return l.file.keep(l.months) })
		}
	}
}

func (l *Limiter) remember(write func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := write(); err != nil {
		l.cfg.Log.Warn("how much was sent this month is not remembered: look at the disk of the home directory", "file", l.cfg.File, "error", err)
	}
}

// look counts what moved since and sets the limits that hold now.
func (l *Limiter) look() {
	now := l.cfg.Now()
	l.mu.Lock()
	month := l.months.At(now)
	month.Sent += l.sent.Swap(0)
	month.Received += l.received.Swap(0)
	limits, why := l.cfg.Schedule.At(now, l.given)
	if limits != l.now || !slices.Equal(why, l.why) {
		l.cfg.Log.Info("these limits count now", "upload", limits.Upload, "download", limits.Download, "schedule", strings.Join(why, "; "))
	}
	l.now, l.why = limits, why
	l.monthly.Store(limits.Monthly)
	l.before.Store(month.Sent)
	over := l.Over()
	l.mu.Unlock()
	l.up.set(handed(limits.Upload))
	l.down.set(handed(limits.Download))
	if l.closed.Swap(over) != over {
		if over {
			l.cfg.Log.Warn("this month's bytes are used up, nothing is given to others until the month ends: swarmnode limits set monthly=... gives more",
				"monthly", limits.Monthly, "ends", policy.MonthEnds(now))
		}
		if l.cfg.Changed != nil {
			l.cfg.Changed()
		}
	}
}
