package sim

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// NodeReport is what one node lived through. Times are seconds after the announcement.
type NodeReport struct {
	Name     string
	UpRate   float64 // bytes/s
	DownRate float64
	Heard    float64 // when it heard of the release
	Complete float64 // when it had all of it; NaN: never
	Sent     float64 // bytes
	Received uint64  // bytes of wanted chunks
	Wasted   uint64  // bytes that came twice or of a cancelled request
	Timeouts uint64
}

// Report is the outcome of a simulation.
type Report struct {
	Scenario string
	Seed     uint64
	Settings []Setting
	Bytes    uint64  // of the release
	Bound    float64 // seconds: no scheme at all is faster (Kumar and Ross, fluid)
	Master   NodeReport
	Nodes    []NodeReport
	Events   uint64
}

// Times are the seconds from the announcement to complete, in order. Nodes that never were are left out.
func (r Report) Times() []float64 {
	var ts []float64
	for _, n := range r.Nodes {
		if !math.IsNaN(n.Complete) {
			ts = append(ts, n.Complete)
		}
	}
	slices.Sort(ts)
	return ts
}

// MasterCopies is how many times the size of the release the master sent.
func (r Report) MasterCopies() float64 { return r.Master.Sent / float64(r.Bytes) }

// Wasted is the share of the bytes received that were of no use.
func (r Report) Wasted() float64 {
	var wasted, all uint64
	for _, n := range r.Nodes {
		wasted += n.Wasted
		all += n.Wasted + n.Received
	}
	if all == 0 {
		return 0
	}
	return float64(wasted) / float64(all)
}

// quantile is the q-th part of sorted values, by nearest rank; NaN of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// WriteText writes the summary: one page for people.
func (r Report) WriteText(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "scenario  %s, seed %d\n", r.Scenario, r.Seed)
	for _, s := range r.Settings {
		fmt.Fprintf(w, "  %-12s %-8s %s\n", s.Name, s.Value, s.Doc)
	}
	times := r.Times()
	var heard []float64
	for _, n := range r.Nodes {
		heard = append(heard, n.Heard)
	}
	slices.Sort(heard)
	fmt.Fprintf(w, "complete  %d of %d nodes\n", len(times), len(r.Nodes))
	fmt.Fprintf(w, "heard     median %.3f s, last %.3f s\n", quantile(heard, 0.5), quantile(heard, 1))
	fmt.Fprintf(w, "T*        %.1f s (Kumar-Ross lower bound)\n", r.Bound)
	for _, q := range []struct {
		name string
		q    float64
	}{{"first", 0}, {"median", 0.5}, {"90 %", 0.9}, {"last", 1}} {
		t := quantile(times, q.q)
		fmt.Fprintf(w, "%-9s %.1f s, T/T* %.3f\n", q.name, t, t/r.Bound)
	}
	fmt.Fprintf(w, "master    sent %.2f copies\n", r.MasterCopies())
	fmt.Fprintf(w, "wasted    %.2f %% of the bytes received\n", 100*r.Wasted())
	fmt.Fprintf(w, "events    %d\n", r.Events)
	return w.Flush()
}

// WriteCSV writes one line for each node, the master first.
func (r Report) WriteCSV(out io.Writer) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"node", "up_bytes_per_s", "down_bytes_per_s", "heard_s", "complete_s", "t_over_bound",
		"sent_bytes", "received_bytes", "wasted_bytes", "timeouts"}) // errors stay until Error
	f := func(v float64) string {
		if math.IsNaN(v) {
			return ""
		}
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	for _, n := range append([]NodeReport{r.Master}, r.Nodes...) {
		_ = w.Write([]string{n.Name, f(n.UpRate), f(n.DownRate), f(n.Heard), f(n.Complete), f(n.Complete / r.Bound),
			f(math.Round(n.Sent)), strconv.FormatUint(n.Received, 10), strconv.FormatUint(n.Wasted, 10), strconv.FormatUint(n.Timeouts, 10)})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
