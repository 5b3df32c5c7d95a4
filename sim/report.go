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
	Kind     string  // honest, liar or slow
	UpRate   float64 // bytes/s
	DownRate float64
	Heard    float64 // when it heard of the release
	Bound    float64 // no scheme completes it sooner while serving all alike (Kumar and Ross); 0: not computed
	Complete float64 // when it had all of it; NaN: never
	Sent     float64 // bytes
	Received uint64  // bytes of wanted chunks
	Wasted   uint64  // bytes that came twice or of a cancelled request
	Timeouts uint64
	Bad      int // wrong chunks that came
	BadKept  int // and were kept
	Banned   int // peers, at the end
}

// Report is the outcome of a simulation.
type Report struct {
	Scenario string
	Seed     uint64
	Settings []Setting
	Bytes    uint64  // of the release
	Bound    float64 // seconds: no scheme at all is faster (Kumar and Ross, fluid)
	Chunked  float64 // seconds: the same of whole chunks and equal links (Mundinger); 0: not computed
	Master   NodeReport
	Nodes    []NodeReport
	Facts    []Setting // answers of scenarios that are not about times of nodes
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
	if len(r.Nodes) > 0 {
		r.writeNodes(w)
	}
	for _, f := range r.Facts {
		fmt.Fprintf(w, "%-24s %-10s %s\n", f.Name, f.Value, f.Doc)
	}
	fmt.Fprintf(w, "events    %d\n", r.Events)
	return w.Flush()
}

func (r Report) writeNodes(w io.Writer) {
	times := r.Times()
	var heard []float64
	for _, n := range r.Nodes {
		heard = append(heard, n.Heard)
	}
	slices.Sort(heard)
	fmt.Fprintf(w, "complete  %d of %d nodes\n", len(times), r.wanting())
	fmt.Fprintf(w, "heard     median %.3f s, last %.3f s\n", quantile(heard, 0.5), quantile(heard, 1))
	fmt.Fprintf(w, "T*        %.1f s (Kumar-Ross lower bound)\n", r.Bound)
	for _, q := range []struct {
		name string
		q    float64
	}{{"first", 0}, {"median", 0.5}, {"90 %", 0.9}, {"99 %", 0.99}, {"last", 1}} {
		t := quantile(times, q.q)
		fmt.Fprintf(w, "%-9s %.1f s, T/T* %.3f\n", q.name, t, t/r.Bound)
	}
	fmt.Fprintf(w, "master    sent %.2f copies\n", r.MasterCopies())
	fmt.Fprintf(w, "wasted    %.2f %% of the bytes received\n", 100*r.Wasted())
	if r.Chunked > 0 {
		r.writeCrowd(w, times)
	}
}

// writeCrowd writes what is known when bounds of each node are known, too.
func (r Report) writeCrowd(w io.Writer, times []float64) {
	mean, p99 := r.Fluid()
	fmt.Fprintf(w, "chunked   %.1f s (Mundinger, if all uplinks are equal), last/chunked %.3f\n", r.Chunked, quantile(times, 1)/r.Chunked)
	fmt.Fprintf(w, "fluid     time over each node's own bound: mean %.3f, 99 %% %.3f\n", mean, p99)
	bad, kept, banned := 0, 0, 0
	for _, n := range r.Nodes {
		bad, kept, banned = bad+n.Bad, kept+n.BadKept, banned+n.Banned
	}
	fmt.Fprintf(w, "wrong     %d chunks came, %d were kept, %d bans\n", bad, kept, banned)
}

// Fluid is how long the nodes took over the bound of each, as mean and 99th percentile of those that were complete.
func (r Report) Fluid() (mean, p99 float64) {
	var ratios []float64
	for _, n := range r.Nodes {
		if !math.IsNaN(n.Complete) && n.Bound > 0 {
			ratios = append(ratios, n.Complete/n.Bound)
			mean += n.Complete / n.Bound
		}
	}
	slices.Sort(ratios)
	return mean / float64(len(ratios)), quantile(ratios, 0.99)
}

// wanting is how many nodes were to become complete.
func (r Report) wanting() int {
	n := 0
	for _, o := range r.Nodes {
		if o.Kind != liar.String() {
			n++
		}
	}
	return n
}

// WriteCSV writes one line for each node, the master first; without nodes, one for each fact.
func (r Report) WriteCSV(out io.Writer) error {
	w := csv.NewWriter(out)
	if len(r.Nodes) == 0 {
		for _, f := range r.Facts {
			_ = w.Write([]string{f.Name, f.Value}) // errors stay until Error
		}
	} else {
		r.writeLines(w)
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r Report) writeLines(w *csv.Writer) {
	_ = w.Write([]string{"node", "kind", "up_bytes_per_s", "down_bytes_per_s", "heard_s", "complete_s", "t_over_bound",
		"bound_s", "sent_bytes", "received_bytes", "wasted_bytes", "timeouts", "bad_chunks", "bad_kept", "banned"})
	f := func(v float64) string {
		if math.IsNaN(v) {
			return ""
		}
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	for _, n := range append([]NodeReport{r.Master}, r.Nodes...) {
		_ = w.Write([]string{n.Name, n.Kind, f(n.UpRate), f(n.DownRate), f(n.Heard), f(n.Complete), f(n.Complete / r.Bound), f(n.Bound),
			f(math.Round(n.Sent)), strconv.FormatUint(n.Received, 10), strconv.FormatUint(n.Wasted, 10), strconv.FormatUint(n.Timeouts, 10),
			strconv.Itoa(n.Bad), strconv.Itoa(n.BadKept), strconv.Itoa(n.Banned)})
	}
}
