package control

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAlertsAskForWhatThereIs: each alert is over metrics that are exported, and says what is the matter and what to do.
func TestAlertsAskForWhatThereIs(t *testing.T) {
	var names []string
	for _, m := range Metrics() {
		names = append(names, m.Name)
	}
	rules := strings.Split(Alerts(), "- alert: ")[1:]
	if len(rules) < 8 {
		t.Fatalf("%d alerts", len(rules))
	}
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		expr := regexp.MustCompile(`expr: (.*)`).FindString(rule)
		asked := regexp.MustCompile(`\bswarmnode_[a-z_]+`).FindAllString(expr, -1)
		for _, a := range asked {
			if !slices.Contains(names, a) {
				t.Errorf("%s: %s is not exported", name, a)
			}
		}
		if len(asked) == 0 && !strings.Contains(expr, "up{") {
			t.Errorf("%s asks for no metric", name)
		}
		for _, want := range []string{"severity: ", "summary: ", "description: "} {
			if !strings.Contains(rule, want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
}

// TestPromtoolTriesTheAlerts: which ring for what is in testdata/alerts_test.yml.
func TestPromtoolTriesTheAlerts(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs promtool of Debian's package prometheus: SWARMNODE_E2E=1")
	}
	for _, args := range [][]string{{"check", "rules", "web/alerts.yml"}, {"test", "rules", "testdata/alerts_test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
