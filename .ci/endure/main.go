// Command endure judges what .ci/e2e/endurance.sh has written down of nodes that ran for hours: is what each takes flat?
//
//	endure SAMPLES.csv RELEASES.csv
//
// The run is cut in quarters. The first is for warming up: caches fill, everybody meets everybody. What counts is, for each node,
// the median of the last quarter over that of the second, and a line fitted through all but the first quarter (Theil and Sen: the
// median slope of all pairs of samples, which single peaks do not move), as what it grows from the second quarter's
// begin to the end. Both may be a tenth at most. The home directory has to stay within its bound in each sample.
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// allowed is by how much a quantity may grow after the first quarter.
const allowed = 0.10

// quantity is a column that has to be flat.
type quantity struct {
	column string
	judged bool    // else only shown
	scale  float64 // what one of the unit shown is
	unit   string
	slack  float64 // growth that counts as none, in what the column counts: a tenth of a small number is less than one
}

// quantities are those of the table. The heap that is live and the anonymous part of the memory are shown to tell where growth comes from.
func quantities() []quantity {
	return []quantity{
		{"rss", true, 1 << 20, "MiB", 0},
		{"goroutines", true, 1, "", 10},
		{"descriptors", true, 1, "", 4},
		{"live", false, 1 << 20, "MiB", 0},
		{"bookkeeping", false, 1 << 10, "KiB", 0},
	}
}

// series are the samples of one node: seconds and the columns by name.
type series map[string][]float64

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: endure SAMPLES.csv RELEASES.csv")
		os.Exit(2)
	}
	flat, err := judge(os.Stdout, os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "endure:", err)
		os.Exit(1)
	}
	if !flat {
		os.Exit(1)
	}
}

// judge prints the tables and reports whether all that is judged is within what is allowed.
func judge(w io.Writer, samples, releases string) (bool, error) {
	names, nodes, err := read(samples, "node")
	if err != nil {
		return false, err
	}
	flat := true
	fmt.Fprintf(w, "%-8s %-12s %10s %10s %9s %9s %10s\n", "node", "what", "2nd", "last", "growth", "fitted", "verdict")
	for _, name := range names {
		for _, q := range quantities() {
			v, err := flatness(nodes[name], q)
			if err != nil {
				return false, fmt.Errorf("%s, %s: %w", name, q.column, err)
			}
			word := "shown"
			if q.judged {
				word = "flat"
				if !v.flat {
					word, flat = "GROWS", false
				}
			}
			fmt.Fprintf(w, "%-8s %-12s %10.1f %10.1f %+8.1f%% %+8.1f%% %10s\n", name, q.column+" "+q.unit, v.before/q.scale, v.after/q.scale,
				100*v.growth, 100*v.fitted, word)
		}
		share, at := fullest(nodes[name])
		word := "bounded"
		if share > 1 {
			word, flat = "TOO MUCH", false
		}
		fmt.Fprintf(w, "%-8s %-12s %9.1f%% of its bound at most, after %.0f min %21s\n", name, "home", 100*share, at/60, word)
	}
	return flat, spread(w, releases)
}

// verdict is what became of one quantity of one node.
type verdict struct {
	before, after float64 // medians of the second and the last quarter
	growth        float64 // of the medians, as a share
	fitted        float64 // of the line, from the end of the first quarter to the end of the run
	flat          bool
}

func flatness(s series, q quantity) (verdict, error) {
	at, values := s["seconds"], s[q.column]
	if len(values) == 0 || len(values) != len(at) {
		return verdict{}, errors.New("no such column")
	}
	end := at[len(at)-1]
	var second, last, times, rest []float64
	for i, t := range at {
		switch {
		case t < end/4:
			continue
		case t < end/2:
			second = append(second, values[i])
		case t >= end*3/4:
			last = append(last, values[i])
		}
		times, rest = append(times, t), append(rest, values[i])
	}
	if len(second) < 3 || len(last) < 3 {
		return verdict{}, errors.New("fewer than 3 samples in a quarter")
	}
	v := verdict{before: median(second), after: median(last)}
	grown := slope(times, rest) * (end * 3 / 4)
	v.growth, v.fitted = (v.after-v.before)/v.before, grown/v.before
	most := max(allowed*v.before, q.slack)
	v.flat = v.after-v.before <= most && grown <= most
	return v, nil
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// slope is Theil and Sen's: what the quantity grows in a second.
func slope(times, values []float64) float64 {
	var all []float64
	for i := range times {
		for j := i + 1; j < len(times); j++ {
			if times[j] > times[i] {
				all = append(all, (values[j]-values[i])/(times[j]-times[i]))
			}
		}
	}
	return median(all)
}

// fullest is the highest share of its bound that the home directory had, and when.
func fullest(s series) (share, at float64) {
	for i, home := range s["home"] {
		if x := home / s["bound"][i]; x > share {
			share, at = x, s["seconds"][i]
		}
	}
	return share, at
}

// spread prints how soon mirrors had releases. It is no failure to be late: the machine may be busy.
func spread(w io.Writer, path string) error {
	names, nodes, err := read(path, "node")
	if err != nil {
		return err
	}
	for _, name := range names {
		after := nodes[name]["after"]
		fmt.Fprintf(w, "%-8s %d releases; had them %.1f s after publish in the median, %.1f s at most; by its own count %.1f s and %.1f s after the announcement\n", name, len(after),
			median(after), slices.Max(after), median(nodes[name]["announced_to_complete"]), slices.Max(nodes[name]["announced_to_complete"]))
	}
	return nil
}

// read gives the rows of a table by the text of one column, and these texts in the order they appear.
func read(path, by string) ([]string, map[string]series, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	if len(rows) < 2 {
		return nil, nil, fmt.Errorf("%s has no rows", path)
	}
	key := slices.Index(rows[0], by)
	if key < 0 {
		return nil, nil, fmt.Errorf("%s has no column %s", path, by)
	}
	var names []string
	found := map[string]series{}
	for _, row := range rows[1:] {
		s := found[row[key]]
		if s == nil {
			s = series{}
			found[row[key]] = s
			names = append(names, row[key])
		}
		for i, text := range row {
			if i == key {
				continue
			}
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
			s[rows[0][i]] = append(s[rows[0][i]], n)
		}
	}
	return names, found, nil
}
