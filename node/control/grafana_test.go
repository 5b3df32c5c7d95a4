package control

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// place is where a panel is, in units of Grafana's grid, which is 24 wide.
type place struct{ H, W, X, Y int }

func (a place) overlaps(b place) bool {
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// panels reads the queries of the Grafana dashboard, by title.
func panels(t *testing.T) map[string][]string {
	t.Helper()
	var d struct {
		Title         string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr, RefID, LegendFormat string }
			GridPos place
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(Grafana()), &d); err != nil || d.Title == "" {
		t.Fatalf("title %q, %v", d.Title, err)
	}
	queries := map[string][]string{}
	if d.SchemaVersion < 36 { // of Grafana 9; from then on a data source is an object
		t.Errorf("schema version %d", d.SchemaVersion)
	}
	for i, p := range d.Panels {
		for _, other := range d.Panels[:i] {
			if p.GridPos.overlaps(other.GridPos) {
				t.Errorf("panels %q and %q are on each other", p.Title, other.Title)
			}
		}
		if p.Type != "stat" && p.Type != "timeseries" {
			t.Errorf("panel %q is a %q", p.Title, p.Type)
		}
		ids := map[string]bool{}
		for _, q := range p.Targets {
			if q.RefID == "" || ids[q.RefID] || q.LegendFormat == "" {
				t.Errorf("panel %q: a query is called %q and shown as %q", p.Title, q.RefID, q.LegendFormat)
			}
			ids[q.RefID] = true
		}
		if p.ID != i+1 || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || len(queries[p.Title]) > 0 || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, at %+v with %d queries", p.ID, p.Title, p.GridPos, len(p.Targets))
		}
		for _, q := range p.Targets {
			queries[p.Title] = append(queries[p.Title], q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			queries["variable "+v.Name] = []string{v.Definition}
		}
	}
	return queries
}

// TestGrafanaAsksForWhatThereIs: each query is of a metric that is exported, and counters are not drawn as they are.
func TestGrafanaAsksForWhatThereIs(t *testing.T) {
	kinds := map[string]MetricKind{}
	for _, m := range Metrics() {
		kinds[m.Name] = m.Kind
	}
	process := string(scrape(t))
	for title, queries := range panels(t) {
		for _, q := range queries {
			for _, name := range regexp.MustCompile(`\b(swarmnode|go|process)_[a-z_]+`).FindAllString(q, -1) {
				kind, ours := kinds[name]
				if !ours && (strings.HasPrefix(name, "swarmnode_") || !slices.Contains(strings.Fields(process), name)) {
					t.Errorf("%s: %s is not exported", title, name)
				}
				if kind == Counter && !strings.Contains(q, "rate("+name) && !strings.Contains(q, "increase("+name) {
					t.Errorf("%s: the counter %s is drawn as it is", title, name)
				}
			}
			if !strings.Contains(q, "swarmnode_") && !strings.Contains(q, "go_") && !strings.Contains(q, "process_") {
				t.Errorf("%s: %s asks for no metric", title, q)
			}
		}
	}
}

// TestPromtoolReadsTheQueries has them read by Prometheus' own tool, as rules, with the variables filled in.
func TestPromtoolReadsTheQueries(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs promtool of Debian's package prometheus: SWARMNODE_E2E=1")
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$name", ".*", "$job", ".*")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for title, queries := range panels(t) {
		for _, q := range queries {
			if !strings.HasPrefix(title, "variable ") {
				rules = append(rules, rule{"r" + string(rune('a'+len(rules)%26)) + strings.Repeat("x", len(rules)/26), fill.Replace(q)})
			}
		}
	}
	raw, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "grafana", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
