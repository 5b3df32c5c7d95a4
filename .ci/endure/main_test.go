package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run writes the tables of two hours of one node and judges them. at gives what is not as usual at a share of the run.
func run(t *testing.T, at func(share float64) map[string]float64) (bool, string) {
	t.Helper()
	columns := []string{"seconds", "rss", "goroutines", "descriptors", "live", "bookkeeping", "home", "bound"}
	var samples strings.Builder
	fmt.Fprintln(&samples, "node,"+strings.Join(columns, ","))
	for s := 0; s <= 7200; s += 30 {
		row := map[string]float64{"seconds": float64(s), "rss": 60e6 + float64(s*7919%5000)*1000, "goroutines": 200, "descriptors": 30, "live": 4e6,
			"bookkeeping": float64(s), "home": 50e6, "bound": 60e6}
		for k, v := range at(float64(s) / 7200) {
			row[k] = v
		}
		samples.WriteString("m1")
		for _, c := range columns {
			fmt.Fprintf(&samples, ",%.0f", row[c])
		}
		samples.WriteString("\n")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var out strings.Builder
	flat, err := judge(io.Writer(&out), write("samples.csv", samples.String()), write("releases.csv", "node,after,announced_to_complete\nm1,0.5,0.3\nm1,1.5,0.2\n"))
	if err != nil {
		t.Fatal(err)
	}
	return flat, out.String()
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		flat bool
		at   func(share float64) map[string]float64
	}{
		"as usual":                  {true, func(float64) map[string]float64 { return nil }},
		"warming up":                {true, func(x float64) map[string]float64 { return map[string]float64{"rss": 60e6 + min(x, 0.25)*200e6} }},
		"less and less":             {true, func(x float64) map[string]float64 { return map[string]float64{"rss": 90e6 - x*40e6} }},
		"a tenth at most":           {true, func(x float64) map[string]float64 { return map[string]float64{"rss": 60e6 + x*6e6} }},
		"memory leaks":              {false, func(x float64) map[string]float64 { return map[string]float64{"rss": 60e6 + x*15e6} }},
		"memory leaks at the end":   {false, func(x float64) map[string]float64 { return map[string]float64{"rss": 60e6 + max(0, x-0.7)*60e6} }},
		"a goroutine for a release": {false, func(x float64) map[string]float64 { return map[string]float64{"goroutines": 200 + x*48} }},
		"a few descriptors":         {true, func(x float64) map[string]float64 { return map[string]float64{"descriptors": 30 + x*5} }},
		"a descriptor of each":      {false, func(x float64) map[string]float64 { return map[string]float64{"descriptors": 30 + x*24} }},
		"the disk is over its bound once": {false, func(x float64) map[string]float64 {
			if x == 0.5 {
				return map[string]float64{"home": 61e6}
			}
			return nil
		}},
	} {
		if flat, table := run(t, c.at); flat != c.flat {
			t.Errorf("%s: flat is %v\n%s", name, flat, table)
		}
	}
}

func TestJudgeNeedsSamples(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "no rows": "node,seconds\n", "no node": "seconds\n1\n", "no number": "node,seconds\nm1,x\n", "too few": "node,seconds,rss\nm1,0,1\nm1,9,1\n"} {
		path := filepath.Join(dir, "samples.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if flat, err := judge(io.Discard, path, path); err == nil || flat {
			t.Errorf("%s: %v, %v", name, flat, err)
		}
	}
}
