package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exampleWidth is where the comments of the example are broken: what fits a terminal of 100 columns.
const exampleWidth = 98

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show, check or begin the configuration file",
		Long: `Whatever is a flag can be set in a configuration file, too: under the flag's name, in the table of
its command. What is for all commands is above the first table:

  log-level = "info"

  [join]
  disk = "500GB"
  bootstrap = ["/ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…"]

The file is --config FILE, else ` + "`swarmnode.toml`" + ` in /etc/swarmnode for root and in ~/.config/swarmnode
for others. A flag counts more than the environment, and that more than the file. In the environment
--disk is SWARMNODE_DISK for all commands that have it, and SWARMNODE_JOIN__DISK for join alone, which
counts more; several values of a flag are separated by commas. A file with a mistake in it is refused as
a whole: no node runs with half of what was meant.`,
		Example: `  swarmnode config example > ~/.config/swarmnode/swarmnode.toml
  swarmnode config check
  swarmnode config print --effective join`,
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configPrintCommand(), a.configCheckCommand(), a.configExampleCommand())
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Find all mistakes in a configuration file",
		Long: `Read a configuration file, by default the one that applies, and tell all mistakes in it with their
lines: what cannot be set, and values that are none. The exit code is 2 if there are any.`,
		Example:     "  swarmnode config check\n  swarmnode config check new.toml && mv new.toml /etc/swarmnode/swarmnode.toml",
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return nil
			}
			return misuse("one file at a time: swarmnode config check %s", quote(args[0]))
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				path, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				a.config = path
			}
			file, err := a.openConfig()
			if err != nil {
				return err
			}
			if file == nil {
				fmt.Fprintln(a.stdout, a.fileLine(file))
				return nil
			}
			settings, problems := file.check(a.freshTree)
			if problems = inOrder(append(problems, a.tlsPairs(file, settings)...)); len(problems) > 0 {
				return badConfig(problems)
			}
			fmt.Fprintf(a.stdout, "%s is right: %s.\n", file.path, count(len(settings), "setting"))
			return nil
		},
	}
}

// fileLine says which file applies.
func (a *app) fileLine(file *configFile) string {
	switch {
	case file != nil:
		return "configuration file " + file.path
	case a.config == noFile:
		return "no configuration file is read"
	}
	return "there is no configuration file " + a.defaultConfig()
}

func (a *app) configPrintCommand() *cobra.Command {
	var effective, asJSON bool
	cmd := &cobra.Command{
		Use:   "print [COMMAND]",
		Short: "Print the settings, and where each comes from",
		Long: `Print what is set, in the form of a configuration file, each with the place that it comes from: the
file with its line, the variable of the environment or the flag. With --effective also what has its
default. COMMAND is one that the settings are for, such as join; without it, all are shown.`,
		Example:     "  swarmnode config print\n  swarmnode config print --effective join\n  SWARMNODE_DISK=20GB swarmnode config print join",
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := a.effective(cmd, args)
			if err != nil {
				return err
			}
			file, err := a.openConfig()
			if err != nil {
				return err
			}
			shown := make([]row, 0, len(rows)) // [] in JSON, too
			for _, r := range rows {
				if effective || r.Source != fromDefault {
					shown = append(shown, r)
				}
			}
			if asJSON {
				enc := json.NewEncoder(a.stdout)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(shown)
			}
			fmt.Fprintf(a.stdout, "# %s\n", a.fileLine(file))
			writeRows(a.stdout, shown)
			return nil
		},
	}
	cmd.Flags().BoolVar(&effective, "effective", false, "also what has its default")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	return cmd
}

// fromDefault is the source of a value that nobody gave.
const fromDefault = "default"

// row is a setting as it counts for a command.
type row struct {
	Table  string `json:"command"` // its table, such as "join"; "" for all commands
	Name   string `json:"setting"`
	Value  any    `json:"value"`
	Source string `json:"source"` // default, --FLAG, variable, or file:line

	note string // what an empty default means
}

// effective gives the settings of the command that args name, or of all, as they would be if it were run now. Flags for all commands
// on the command line of self count, as they would there.
func (a *app) effective(self *cobra.Command, args []string) ([]row, error) {
	all, _, err := a.freshTree().Find(args)
	if err != nil || (len(args) > 0 && tableOf(all) != strings.Join(args, ".")) {
		return nil, unknownCommand(a.freshTree(), strings.Join(args, " "))
	}
	tables := []string{""}
	if len(args) > 0 {
		tables = append(tables, tableOf(all))
	} else {
		eachCommand(all, func(c *cobra.Command) {
			if c != all {
				tables = append(tables, tableOf(c))
			}
		})
	}
	var rows []row
	for i, table := range tables {
		path := strings.Split(table, ".")
		if i == 0 {
			path = args // what is for all commands is shown as that command has it
		}
		list, err := a.settled(self, table, path)
		if err != nil {
			return nil, err
		}
		rows = append(rows, list...)
	}
	return rows, nil
}

// settled runs a command up to where its flags are settled, and gives those of a table.
func (a *app) settled(self *cobra.Command, table string, path []string) ([]row, error) {
	b := app{stdout: io.Discard, console: newConsole(io.Discard), env: a.env}
	root := b.rootCommand()
	var bad error
	self.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if a.sources[f.Name].place == "--"+f.Name && bad == nil {
			bad = root.PersistentFlags().Set(f.Name, f.Value.String())
		}
	})
	if bad != nil {
		return nil, bad
	}
	if len(path) == 1 && path[0] == "" {
		path = nil
	}
	cmd, _, err := root.Find(path)
	if err != nil {
		return nil, err
	}
	cmd.InheritedFlags() // has cobra put them into Flags
	delete(cmd.Annotations, noFileAnnotation)
	if err := b.settle(cmd); err != nil {
		return nil, err
	}
	var rows []row
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !settable(f) || f.Hidden || tableOf(owner(cmd, f)) != table {
			return
		}
		r := row{Table: table, Name: f.Name, Value: valueOf(f), Source: b.sources[f.Name].place, note: defaultNote(f)}
		if written := b.sources[f.Name].written; kindOf(f) == sizeKind && written != nil {
			r.Value = written // 20GB is not read well as 19 GiB
		}
		if r.Source == "" {
			r.Source = fromDefault
		}
		rows = append(rows, r)
	})
	return rows, nil
}

// valueOf is the value of a flag as JSON and TOML have it.
func valueOf(f *pflag.Flag) any {
	value := f.Value.String()
	switch kindOf(f) {
	case listKind:
		return append([]string{}, f.Value.(pflag.SliceValue).GetSlice()...)
	case truthKind:
		return value == "true"
	case numberKind:
		return json.Number(value)
	}
	return value
}

// defaultNote is what the help says about the default.
func defaultNote(f *pflag.Flag) string {
	if m := regexp.MustCompile(`\(default:? (.*)\)`).FindStringSubmatch(f.Usage); m != nil {
		return m[1]
	}
	return ""
}

// tomlText writes a value. What JSON calls a string, number, list or truth, TOML calls so, too.
func tomlText(v any) string {
	var b bytes.Buffer
	if err := printJSON(&b, v); err != nil {
		panic(err) // valueOf gives nothing that cannot be written
	}
	text := strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
	return strings.ReplaceAll(text, `","`, `", "`)
}

// writeRows writes a configuration file with the places in comments.
func writeRows(out io.Writer, rows []row) {
	table := ""
	for _, r := range rows {
		if r.Table != table {
			table = r.Table
			fmt.Fprintf(out, "\n[%s]\n", table)
		}
		line := r.Name + " = " + tomlText(r.Value)
		if empty := line == r.Name+` = ""` || line == r.Name+" = []"; empty && r.Source == fromDefault {
			line = "# " + r.Name + " is not set" // "" may be no value for it
			if r.note != "" {
				r.Source += ": " + r.note
			}
		}
		fmt.Fprintf(out, "%-40s # %s\n", line, r.Source)
	}
}

func (a *app) configExampleCommand() *cobra.Command {
	var everything bool
	cmd := &cobra.Command{
		Use:   "example",
		Short: "Print a configuration file to begin with",
		Long: `Print a configuration file in which everything is explained and nothing is set yet: what is for all
commands, and for those that run a node. Take away the # before what you want to set.`,
		Example:     "  swarmnode config example > ~/.config/swarmnode/swarmnode.toml\n  swarmnode config example --all",
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args:        noArgs,
		RunE: func(*cobra.Command, []string) error {
			writeExample(a.stdout, a.freshTree(), everything)
			return nil
		},
	}
	cmd.Flags().BoolVar(&everything, "all", false, "also for the commands that run no node")
	return cmd
}

// writeExample writes the file with all settings as comments.
func writeExample(out io.Writer, root *cobra.Command, everything bool) {
	fmt.Fprint(out, `# Settings of swarmnode: each has the name of a flag, in the table of its command. Flags and the environment
# (SWARMNODE_…) count more. Try it with: swarmnode config check

# --- for all commands ---
`)
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd != root && !everything && cmd.Annotations[serviceAnnotation] == "" {
			return
		}
		var flags []*pflag.Flag
		for _, f := range ownFlags(cmd) {
			if settable(f) && !f.Hidden {
				flags = append(flags, f)
			}
		}
		if cmd != root && len(flags) > 0 {
			fmt.Fprintf(out, "\n# --- %s ---\n[%s]\n", cmd.Short, tableOf(cmd))
		}
		for _, f := range flags {
			_, usage := pflag.UnquoteUsage(f)
			fmt.Fprintf(out, "\n%s#%s = %s\n", comment(usage), f.Name, exampleValue(f))
		}
	})
}

// exampleValue is what the help names as an example, the default, or a word for what is wanted there.
func exampleValue(f *pflag.Flag) string {
	placeholder, usage := pflag.UnquoteUsage(f)
	if m := regexp.MustCompile(`such as ("[^"]+"|[^ ,;)]+)`).FindStringSubmatch(usage); m != nil {
		word := strings.Trim(m[1], `"`)
		switch kind := kindOf(f); {
		case kind == listKind:
			return tomlText([]string{word})
		case f.Value.Set(word) == nil:
			return tomlText(word)
		}
	}
	if f.Name == "bootstrap" {
		placeholder = addressExample
	}
	value := tomlText(valueOf(f))
	switch {
	case value == "[]":
		return tomlText([]string{placeholder})
	case value != `""` && (f.Value.Type() != "duration" || f.DefValue != "0s"):
		return value
	case placeholder == "string": // pflag's word for none
		if note := defaultNote(f); note != "" && !strings.ContainsAny(note, " \t") {
			return tomlText(note)
		}
		return value
	}
	return tomlText(placeholder)
}

// comment breaks a text into lines of a comment.
func comment(text string) string {
	var b strings.Builder
	column := exampleWidth
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if column+1+n > exampleWidth {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteByte('#')
			column = 1
		}
		b.WriteString(" " + word)
		column += 1 + n
	}
	b.WriteByte('\n')
	return b.String()
}

// eachCommand calls visit for a command and all below it that people are told of.
func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			eachCommand(c, visit)
		}
	}
}
