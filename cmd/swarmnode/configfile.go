package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// configName is the file's name in a directory that somebody else chose.
	configName = "swarmnode.toml"
	// noFile is the value of --config for no file.
	noFile = "none"
	// maxConfigBytes bounds the file: a page or two is usual, and it is read whole.
	maxConfigBytes = 1 << 20
)

// configFile is a configuration file as it was read: what it means is known once it is held against the commands.
type configFile struct {
	path   string
	values map[string]any
	lines  map[string]int // "join.disk" -> line
}

// setting is one value in a file.
type setting struct {
	table string // "" for all commands
	key   string
	value any
	line  int
}

// problem is a mistake in a file.
type problem struct {
	path string
	line int
	text string
}

func (p problem) String() string { return fmt.Sprintf("%s:%d: %s", p.path, p.line, p.text) }

// badConfig is the error that tells all problems of a file.
func badConfig(problems []problem) error {
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration file has %s:", count(len(problems), "mistake"))
	for _, p := range problems {
		b.WriteString("\n" + p.String())
	}
	return misuse("%s", b.String())
}

// defaultConfig is the file that is read, if it exists, unless --config or SWARMNODE_CONFIG say otherwise.
func (a *app) defaultConfig() string {
	if dirs, _ := a.env("CONFIGURATION_DIRECTORY"); dirs != "" { // of a systemd service; the first of a list
		dir, _, _ := strings.Cut(dirs, ":")
		return filepath.Join(dir, configName)
	}
	if dir, _ := a.env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "swarmnode", configName)
	}
	user, err := os.UserHomeDir()
	switch {
	case ofService(os.Geteuid(), user):
		return "/etc/swarmnode/" + configName
	case err != nil:
		return configName
	}
	return filepath.Join(user, ".config", "swarmnode", configName)
}

// openConfig reads the file that applies; nil if there is none.
func (a *app) openConfig() (*configFile, error) {
	switch a.config {
	case noFile:
		return nil, nil
	case "":
		file, err := readConfig(a.defaultConfig())
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return file, err
	}
	path, err := filepath.Abs(a.config)
	if err != nil {
		return nil, err
	}
	file, err := readConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no configuration file %s; begin one with `swarmnode config example`", path)
	}
	return file, err
}

// readConfig reads a file. The error is fs.ErrNotExist if there is none, and misuse if it is not TOML.
func readConfig(path string) (*configFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(raw) > maxConfigBytes {
		return nil, fmt.Errorf("configuration: %s is larger than 1 MiB: that is another file", path)
	}
	return parseConfig(path, withoutMark(raw))
}

func parseConfig(path string, raw []byte) (*configFile, error) {
	c := &configFile{path: path, values: map[string]any{}, lines: map[string]int{}}
	if err := toml.Unmarshal(raw, &c.values); err != nil {
		line := 1
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ = at.Position()
		}
		return nil, badConfig([]problem{{path, line, strings.TrimPrefix(err.Error(), "toml: ")}})
	}
	var p unstable.Parser
	p.Reset(raw)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.KeyValue {
			c.locate(&p, table, e)
			continue
		}
		table = c.locateKey(&p, "", e)
	}
	return c, nil
}

// locate notes the lines of a key and of the keys in its value.
func (c *configFile) locate(p *unstable.Parser, table string, e *unstable.Node) {
	name := c.locateKey(p, table, e)
	if value := e.Value(); value.Kind == unstable.InlineTable {
		for it := value.Children(); it.Next(); {
			c.locate(p, name, it.Node())
		}
	}
}

// locateKey notes the line of a key, such as join.disk, and of each part that is new with it. It gives the whole name.
func (c *configFile) locateKey(p *unstable.Parser, table string, e *unstable.Node) string {
	name := table
	for it := e.Key(); it.Next(); {
		name = dotted(name, string(it.Node().Data))
		if c.lines[name] == 0 {
			c.lines[name] = p.Shape(it.Node().Raw).Start.Line
		}
	}
	return name
}

func dotted(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// check holds the file against the commands: what it sets, and what is wrong with it, by line. The values are tried on a tree
// that tree makes.
func (c *configFile) check(tree func() *cobra.Command) ([]setting, []problem) {
	k := checker{file: c, root: tree()}
	k.table(k.root, "", c.values)
	slices.SortFunc(k.settings, func(a, b setting) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(dotted(a.table, a.key), dotted(b.table, b.key)))
	})
	return k.settings, inOrder(k.problems)
}

// inOrder sorts problems by line.
func inOrder(list []problem) []problem {
	slices.SortFunc(list, func(a, b problem) int { return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text)) })
	return list
}

// checker collects what a file says.
type checker struct {
	file     *configFile
	root     *cobra.Command
	settings []setting
	problems []problem
}

func (k *checker) table(cmd *cobra.Command, name string, values map[string]any) {
	for key, value := range values {
		line := k.file.lines[dotted(name, key)]
		wrong := func(format string, args ...any) {
			k.problems = append(k.problems, problem{k.file.path, line, fmt.Sprintf(format, args...)})
		}
		inner, isTable := value.(map[string]any)
		f, sub := ownFlag(cmd, key), subcommand(cmd, key)
		switch {
		case f != nil && !(isTable && sub != nil):
			err := assign(f, value)
			if err == nil {
				err = plausible(f)
			}
			if err != nil {
				wrong("%s: %v", key, err)
				continue
			}
			k.settings = append(k.settings, setting{name, key, value, line})
		case sub != nil && isTable:
			k.table(sub, dotted(name, key), inner)
		case key == "config":
			wrong("a configuration file cannot name another one")
		case sub != nil:
			wrong("%s is a command, not a setting: write [%s], and its settings below", key, dotted(name, key))
		case isTable:
			wrong("%s", k.noTable(cmd, name, key))
		default:
			wrong("%s", k.noSetting(cmd, name, key))
		}
	}
}

func ownFlag(cmd *cobra.Command, name string) *pflag.Flag {
	for _, f := range ownFlags(cmd) {
		if f.Name == name && settable(f) {
			return f
		}
	}
	return nil
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// noTable says what may have been meant by a table that is none.
func (k *checker) noTable(cmd *cobra.Command, name, key string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := nearest(key, names); near != "" {
		return fmt.Sprintf("there is no command %q; did you mean [%s]?", dotted(name, key), dotted(name, near))
	}
	return fmt.Sprintf("there is no command %q to set anything for", dotted(name, key))
}

// noSetting says what may have been meant by a key that is no flag here.
func (k *checker) noSetting(cmd *cobra.Command, name, key string) string {
	var tables []string
	eachCommand(k.root, func(c *cobra.Command) {
		if ownFlag(c, key) != nil {
			tables = append(tables, tableOf(c))
		}
	})
	where := "for all commands"
	if name != "" {
		where = "for " + strings.ReplaceAll(name, ".", " ")
	}
	switch {
	case slices.Contains(tables, ""):
		return fmt.Sprintf("%s is for all commands: write it above the first [table]", key)
	case len(tables) > 0:
		return fmt.Sprintf("there is no setting %q %s; it is one of [%s]: write it below that", key, where, strings.Join(tables, "], ["))
	}
	var names []string
	for _, f := range ownFlags(cmd) {
		if settable(f) {
			names = append(names, f.Name)
		}
	}
	if near := nearest(key, names); near != "" {
		return fmt.Sprintf("there is no setting %q %s; did you mean %s?", key, where, near)
	}
	if len(names) == 0 {
		return fmt.Sprintf("there is no setting %q %s: nothing can be set there", key, where)
	}
	return fmt.Sprintf("there is no setting %q %s; there are: %s", key, where, strings.Join(names, ", "))
}
