package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a program prints is text to roff, wherever the line is broken.
func TestRoff(t *testing.T) {
	cases := []struct{ in, want string }{
		{"plain", "plain\n"},
		{".SH is no request", "\\&.SH is no request\n"},
		{"'it' is none", "\\&\\(aqit\\(aq is none\n"},
		{`C:\n --a-b "c" ~/x^y`, "C:\\en \\-\\-a\\-b \\(dqc\\(dq \\(ti/x\\(hay\n"},
		{"run `swarmnode keys` now…", "run \\fBswarmnode keys\\fR now\\[u2026]\n"},
		{strings.Repeat("a", manWidth) + " .b", strings.Repeat("a", manWidth) + "\n\\&.b\n"},
	}
	for _, c := range cases {
		var p manPage
		p.text(c.in)
		if got := p.String(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// manPages writes all pages and gives their directory.
func manPages(t *testing.T) string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795305600")
	dir := filepath.Join(t.TempDir(), "man1")
	var out lockedBuffer
	if code := run(t.Context(), []string{"man", "--dir", dir, "--config", noFile}, os.Stdin, &out, &out); code != 0 {
		t.Fatalf("got exit code %d, want 0\n%s", code, out.String())
	}
	return dir
}

// Each command has a page that tells each of its flags, the same each time and on each machine.
func TestManPages(t *testing.T) {
	first := manPages(t)
	t.Setenv("XDG_STATE_HOME", "/elsewhere")
	second := manPages(t)
	for _, c := range allCommands() {
		name := manName(c) + ".1"
		page, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Error(err)
			continue
		}
		again, err := os.ReadFile(filepath.Join(second, name))
		if err != nil || !bytes.Equal(page, again) {
			t.Errorf("%s: the second time it is another page (error %v)", name, err)
		}
		if !strings.HasPrefix(string(page), `.TH "SWARMNODE`) || !strings.Contains(string(page), `"1" "2026-11-22"`) {
			t.Errorf("%s: begins with %.60q, want a title with the date 2026-11-22", name, page)
		}
		for _, f := range ownFlags(c) {
			if want := roffWord("--" + f.Name); !f.Hidden && !strings.Contains(string(page), want+`\fR`) {
				t.Errorf("%s: --%s is not in it", name, f.Name)
			}
		}
		for _, ref := range regexp.MustCompile(`(?m)^\.BR (\S+) \(1\)`).FindAllStringSubmatch(string(page), -1) {
			if _, err := os.Stat(filepath.Join(first, strings.ReplaceAll(ref[1], `\-`, "-")+".1")); err != nil {
				t.Errorf("%s names a page that is not there: %v", name, err)
			}
		}
	}
}

// Two strict readers have nothing against the pages.
func TestManReaders(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs mandoc and groff, and SWARMNODE_E2E=1")
	}
	pages, err := filepath.Glob(filepath.Join(manPages(t), "*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
	for _, p := range pages {
		var text, errs bytes.Buffer
		cmd := exec.Command("groff", "-man", "-ww", "-Tutf8", "-P-cbou", p) // without bold and underlined letters
		cmd.Stdout, cmd.Stderr = &text, &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 || !strings.Contains(text.String(), "SYNOPSIS") {
			t.Errorf("groff %s: %v, %s", filepath.Base(p), err, errs.String())
		}
	}
}
