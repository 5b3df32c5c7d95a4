package control

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// sampleEvery is how often traffic is looked at, and what a viewer sees is sent again.
	sampleEvery = 3 * time.Second
	// keptSamples are ten minutes: enough to see whether something moves; who wants more asks Prometheus.
	keptSamples = 200
)

// sample is what was counted at a time.
type sample struct {
	at            time.Time
	in, out, http int64 // bytes from peers, to peers, to ordinary clients
}

// traffic remembers the last samples.
type traffic struct {
	mu   sync.Mutex // guards list
	list []sample   // the oldest first
}

// rate is traffic in bytes per second in the time up to at.
type rate struct {
	at            time.Time
	in, out, http float64
}

func sampleOf(s Status, now time.Time) sample {
	x := sample{at: now, in: s.BytesIn, out: s.BytesOut}
	if s.Gateway != nil {
		x.http = int64(s.Gateway.Bytes)
	}
	return x
}

func (t *traffic) add(s sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == keptSamples {
		copy(t.list, t.list[1:])
		t.list = t.list[:keptSamples-1]
	}
	t.list = append(t.list, s)
}

// rates gives the rate between each two samples, the oldest first.
func (t *traffic) rates() []rate {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []rate
	for i := 1; i < len(t.list); i++ {
		a, b := t.list[i-1], t.list[i]
		d := b.at.Sub(a.at).Seconds()
		if d <= 0 { // the clock was set back
			continue
		}
		per := func(from, to int64) float64 { return max(0, float64(to-from)/d) }
		list = append(list, rate{b.at, per(a.in, b.in), per(a.out, b.out), per(a.http, b.http)})
	}
	return list
}

// sample looks at the traffic until ctx ends.
func (d *Dashboard) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		d.traffic.add(sampleOf(d.cfg.Status(), d.cfg.Now()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const (
	// chartWidth and chartHeight are the sides of the picture of the traffic in its own units.
	chartWidth, chartHeight = 600, 120
)

// trafficView is the traffic as the page shows it.
type trafficView struct {
	In, Out, HTTP          float64 // bytes per second now
	TotalIn, TotalOut      int64   // since the start
	TotalHTTP              int64
	Width, Height          int
	InLine, OutLine, HLine string  // the points of lines
	Top                    float64 // bytes per second at the upper edge
	Month                  monthView
	Minutes                int // that the picture goes back; 0: there is none yet
}

func trafficOf(s Status, rates []rate) trafficView {
	now := sampleOf(s, time.Time{})
	v := trafficView{TotalIn: now.in, TotalOut: now.out, TotalHTTP: now.http, Width: chartWidth, Height: chartHeight}
	v.Month = monthOf(s.Limits)
	if len(rates) == 0 {
		return v
	}
	last := rates[len(rates)-1]
	v.In, v.Out, v.HTTP = last.in, last.out, last.http
	if len(rates) < 2 {
		return v
	}
	for _, r := range rates {
		v.Top = max(v.Top, r.in, r.out, r.http)
	}
	v.Top = max(v.Top, 1024) // a quiet line is flat, not full of hills of some bytes
	first, span := rates[0].at, last.at.Sub(rates[0].at)
	v.Minutes = max(1, int(span.Round(time.Minute).Minutes()))
	line := func(of func(rate) float64) string {
		var b strings.Builder
		for _, r := range rates {
			x := r.at.Sub(first).Seconds() / span.Seconds() * chartWidth
			fmt.Fprintf(&b, "%.1f,%.1f ", x, chartHeight-of(r)/v.Top*(chartHeight-2)-1)
		}
		return strings.TrimSpace(b.String())
	}
	v.InLine, v.OutLine, v.HLine = line(func(r rate) float64 { return r.in }), line(func(r rate) float64 { return r.out }), line(func(r rate) float64 { return r.http })
	return v
}

// monthView is what the page says of the month and of the limits; Name is "" where nothing is counted.
type monthView struct {
	Limits
	Name             string
	Upload, Download float64 // bytes per second; 0: no limit
	Share            int     // of what may be sent, in percent; -1 without a limit
}

func monthOf(l Limits) monthView {
	v := monthView{Limits: l, Name: l.Month, Upload: float64(l.Upload), Download: float64(l.Download), Share: -1}
	if l.Monthly > 0 {
		v.Share = share(l.Sent, l.Monthly)
	}
	return v
}
