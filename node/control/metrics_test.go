package control

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"swarmnode/content"
)

// busy is a status with a value in every field that a metric is of.
func busy(now time.Time) Status {
	x := Collection{ID: content.NewID([]byte("x")), Name: "debian", Phase: "fetching",
		Serving:  Serving{Release: 7, Head: 8, FreshAsOf: now.Add(-time.Minute), Expires: now.Add(time.Hour), Lag: 2, Files: 20, Mirrors: 3, Holders: 4},
		Storage:  Storage{Segments: 10, SegmentsComplete: 6, Bytes: 1000, BytesHere: 600, BytesOnDisk: 900, BytesBudget: 2000, Scrub: Scrub{Passes: 1, Finished: now.Add(-time.Hour), Bad: 3, Repaired: 2, Missing: 1}},
		Transfer: Transfer{ReceivedBytes: 5000, MetadataBytes: 100, WastedBytes: 50, BytesInFlight: 64, Unobtainable: 1, AnnouncedToComplete: 1.5}}
	cache := Collection{ID: content.NewID([]byte("y")), Name: "bad\xffname", Alarm: "two heads", Trouble: "no room",
		Origin: &Origin{LeftOut: LeftOut{Paths: 1}, OriginRuns: OriginRuns{Runs: 5, Failures: 2}, OriginTimes: OriginTimes{Success: now, Dated: now.Add(-time.Hour)}}, Cache: &Cache{Bytes: 1, Budget: 2, Hits: 3, Misses: 4}}
	return Status{Verdict: "behind: fetching debian", ID: "12D3KooWnode", Started: now.Add(-time.Hour), Collections: []Collection{x, cache},
		Gateway: &Gateway{Local: "http://127.0.0.1:8080/", Connections: 1, Answers: 9, Failed: 2, Refused: 3, Slow: 4, Bytes: 12345},
		Peers: []Peer{{ID: "a", Addr: "/ip4/192.0.2.1/tcp/4101", Transport: "tcp", RTT: 10 * time.Millisecond}, {ID: "b", RTT: 30 * time.Millisecond, Inbound: true},
			{ID: "c", RTT: 20 * time.Millisecond, Inbound: true}, {ID: "d"}},
		Bootstrap: []Bootstrap{{Addr: "/ip4/192.0.2.1/tcp/4101", Connected: true}, {Addr: "/ip4/192.0.2.2/tcp/4101", Error: "refused"}},
		Offenders: []Offender{{Peer: "e", What: "sent a wrong chunk", Count: 3, Last: now, BannedUntil: now.Add(time.Hour)}, {Peer: "f", Count: 1}},
		Traffic: Traffic{BytesIn: 100, BytesOut: 200,
			Limits: Limits{Upload: 1024, Monthly: 8192, Month: "2026-11", Sent: 4096, Received: 2048, Schedule: []string{"Mon-Fri"}}}}
}

func TestMetrics(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	asked := 0
	r := newRegistry(func() Status { asked++; return busy(now) }, func() time.Time { return now })
	if problems, err := promlint.New(strings.NewReader(exposition(r))).Lint(); err != nil || len(problems) > 0 {
		t.Fatalf("lint: %v, %v", problems, err)
	}
	asked = 0
	got := exposition(r)
	if asked != 1 {
		t.Errorf("one scrape asked %d times for the status", asked)
	}
	x, y := busy(now).Collections[0].ID.String(), busy(now).Collections[1].ID.String()
	for _, want := range []string{
		"# HELP swarmnode_banned_peers How many of these are banned now.", "# TYPE swarmnode_banned_peers gauge", "swarmnode_banned_peers 1",
		`swarmnode_collection_release{collection="` + x + `",name="debian"} 7`,
		`swarmnode_collection_release{collection="` + y + "\",name=\"bad\uFFFDname\"} 0",
		"# TYPE swarmnode_collection_cache_hits_total counter", `swarmnode_collection_cache_hits_total{collection="` + y + "\",name=\"bad\uFFFDname\"} 3",
		`swarmnode_collection_fresh_timestamp_seconds{collection="` + x + `",name="debian"} 1.79999994e+09`,
		`swarmnode_collection_origin_metadata_timestamp_seconds{collection="` + y + "\",name=\"bad\uFFFDname\"} 1.7999964e+09",
		"swarmnode_fine 0", "swarmnode_inbound_peers 2", "swarmnode_outbound_peers 2", "swarmnode_peer_rtt_median_seconds 0.02", "swarmnode_bootstrap_connected 1",
		"swarmnode_sent_bytes_total 200", "swarmnode_upload_limit_bytes_per_second 1024", "swarmnode_download_limit_bytes_per_second 0", "swarmnode_month_limit_bytes 8192", "swarmnode_month_sent_bytes 4096", "swarmnode_month_received_bytes 2048", "swarmnode_gateway_sent_bytes_total 12345",
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("not exported: %s", want)
		}
	}
	for _, absent := range []string{"swarmnode_collection_cache_hits_total{collection=\"" + x, "swarmnode_collection_fresh_timestamp_seconds{collection=\"" + y} {
		if strings.Contains(got, absent) {
			t.Errorf("exported although there is none: %s", absent)
		}
	}
	if got := exposition(newRegistry(func() Status { return Status{} }, time.Now)); !strings.Contains(got, "swarmnode_collections 0\n") || strings.Contains(got, "swarmnode_gateway_") {
		t.Errorf("a node without anything exports\n%s", got)
	}
}

// exposition is a scrape without a server.
func exposition(r *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// scrape gives the text of /metrics, by a server on a port of its own.
func scrape(t *testing.T) []byte {
	t.Helper()
	now := time.Now()
	d := showing(t, DashboardConfig{Status: func() Status { return busy(now) }})
	res, err := http.Get(d.URL() + "metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	return text
}

// TestEveryMetricIsDocumented compares what is exported with the list and with the README, both ways.
func TestEveryMetricIsDocumented(t *testing.T) {
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (swarmnode_\S+) (\S+)`).FindAllSubmatch(scrape(t), -1) {
		exported[string(m[1])+" "+string(m[2])] = true
	}
	listed := map[string]bool{}
	for _, m := range Metrics() {
		listed[m.Name] = true
		if !exported[m.Name+" "+string(m.Kind)] {
			t.Errorf("%s (%s) is listed and not exported", m.Name, m.Kind)
		}
		if m.Help == "" || strings.Contains(m.Help, "\n") {
			t.Errorf("%s: its help is no line", m.Name)
		}
	}
	if len(exported) != len(listed) {
		t.Errorf("%d metrics are exported, %d listed", len(exported), len(listed))
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Metrics() {
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", m.Name, m.Kind, m.Help); !strings.Contains(string(readme), row) {
			t.Errorf("README has not the row %s", row)
		}
	}
	for _, m := range regexp.MustCompile(`\bswarmnode_[a-z_]+\b`).FindAllString(string(readme), -1) {
		if !listed[m] {
			t.Errorf("README tells of %s, which is not exported", m)
		}
	}
	for _, other := range []string{"go_goroutines", "process_start_time_seconds"} {
		if !slices.Contains(strings.Fields(string(scrape(t))), other) {
			t.Errorf("%s is not exported", other)
		}
	}
}

// TestPromtool has the export read by Prometheus' own tool, where that is installed.
func TestPromtool(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs promtool of Debian's package prometheus: SWARMNODE_E2E=1")
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(string(scrape(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
