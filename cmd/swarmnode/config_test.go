package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// testTree makes the commands with an empty environment.
func testTree() *cobra.Command {
	a := &app{stdout: io.Discard, console: newConsole(io.Discard), env: func(string) (string, bool) { return "", false }}
	return a.rootCommand()
}

// What the example names as values can be set as it stands: nobody copies a mistake from it.
func TestExampleIsRight(t *testing.T) {
	var b strings.Builder
	writeExample(&b, testTree(), true)
	set := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(b.String(), "$1")
	file, err := parseConfig("example.toml", []byte(set))
	if err != nil {
		t.Fatalf("%v\n%s", err, set)
	}
	settings, problems := file.check(testTree)
	for _, p := range problems {
		t.Error(p)
	}
	if flags := countFlags(); len(settings) != flags {
		t.Errorf("got %d settings in the example, want all %d", len(settings), flags)
	}
}

func countFlags() (n int) {
	eachCommand(testTree(), func(c *cobra.Command) {
		for _, f := range ownFlags(c) {
			if settable(f) && !f.Hidden {
				n++
			}
		}
	})
	return n
}

// A variable for one command must not be that of another flag for all.
func TestVariablesAreDifferent(t *testing.T) {
	seen := map[string]string{}
	take := func(name, what string) {
		if other, ok := seen[name]; ok && other != what {
			t.Errorf("%s is for %s and for %s: give one another name", name, other, what)
		}
		seen[name] = what
	}
	eachCommand(testTree(), func(c *cobra.Command) {
		for _, f := range ownFlags(c) {
			take(envName("", f.Name), "--"+f.Name)
			if c.HasParent() {
				take(envName(tableOf(c), f.Name), tableOf(c)+" --"+f.Name)
			}
		}
	})
	if got, want := seen["SWARMNODE_KEYS__INIT__THRESHOLD"], "keys.init --threshold"; got != want {
		t.Errorf("SWARMNODE_KEYS__INIT__THRESHOLD: got %q, want %q", got, want)
	}
}

// Each kind of flag takes what TOML has for it, and nothing else.
func TestAssign(t *testing.T) {
	cases := []struct {
		flag  string
		value any
		want  string // "": refused
	}{
		{"text", "a", "a"}, {"text", int64(1), ""}, {"text", true, ""}, {"text", []any{"a"}, ""}, {"text", map[string]any{}, ""},
		{"truth", true, "true"}, {"truth", "true", ""}, {"truth", int64(1), ""},
		{"number", int64(7), "7"}, {"number", "7", ""}, {"number", 7.0, ""}, {"number", int64(-1), ""},
		{"ratio", 0.5, "0.5"}, {"ratio", int64(2), "2"}, {"ratio", "2", ""},
		{"size", "20GB", "19 GiB"}, {"size", int64(1 << 30), "1.0 GiB"}, {"size", "much", ""}, {"size", 1.5, ""}, {"size", false, ""},
		{"long", "2h", "2h0m0s"}, {"long", int64(2), ""}, {"long", "soon", ""},
		{"words", []any{"a,b", "c"}, `["a,b",c]`}, {"words", "a,b", `["a,b"]`}, {"words", []any{}, "[]"}, {"words", []any{"a", true}, ""}, {"words", int64(1), ""},
		{"numbers", []any{int64(1), int64(2)}, "[1,2]"}, {"numbers", []any{"x"}, ""},
	}
	for _, c := range cases {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		fs.String("text", "", "")
		fs.Bool("truth", false, "")
		fs.Uint("number", 0, "")
		fs.Float64("ratio", 0, "")
		fs.Var(new(sizeFlag), "size", "")
		fs.Duration("long", 0, "")
		fs.StringSlice("words", []string{"default"}, "")
		fs.IntSlice("numbers", nil, "")
		f := fs.Lookup(c.flag)
		err := assign(f, c.value)
		if (err == nil) != (c.want != "") || f.Changed != (err == nil) || err == nil && f.Value.String() != c.want {
			t.Errorf("%s = %#v: got %s, %v, want %q", c.flag, c.value, f.Value, err, c.want)
		}
	}
}

func TestDefaultConfig(t *testing.T) {
	cases := []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"CONFIGURATION_DIRECTORY": "/c:/d", "XDG_CONFIG_HOME": "/x"}, "/c/swarmnode.toml"},
		{map[string]string{"XDG_CONFIG_HOME": "/x"}, "/x/swarmnode/swarmnode.toml"},
	}
	for _, c := range cases {
		a := &app{env: func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }}
		if got := a.defaultConfig(); got != c.want {
			t.Errorf("%v: got %s, want %s", c.env, got, c.want)
		}
	}
}

func TestConfigTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.toml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxConfigBytes/2)+"#"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v, want that it is too large", err)
	}
}

// Whatever is in the file, each setting and each mistake has its line.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("log-level = 3\n[join]\ndisk = \"20GB\"\n[keys]\ninit = {keys = 5, a.b = [1, {c = 2}]}\n[[get]]\n"))
	f.Add([]byte("join.disk = 5\n\"join\".'no-mdns' = true\n[a.\"b.c\"]\nx = 1979-05-27\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := parseConfig("f", raw)
		if err != nil {
			return
		}
		lines := 1 + strings.Count(string(raw), "\n")
		settings, problems := file.check(testTree)
		for _, s := range settings {
			if s.line < 1 || s.line > lines {
				t.Errorf("got line %d of %d for %s", s.line, lines, s.key)
			}
		}
		for _, p := range problems {
			if p.line < 1 || p.line > lines {
				t.Errorf("got line %d of %d for %q", p.line, lines, p)
			}
		}
	})
}

// allCommands are the commands that people are told of.
func allCommands() (list []*cobra.Command) {
	eachCommand(testTree(), func(c *cobra.Command) { list = append(list, c) })
	return list
}
