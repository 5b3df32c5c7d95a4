package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// manSection is where manuals of commands are.
	manSection = "1"
	// manWidth is the longest line that mandoc -T lint has nothing against.
	manWidth = 79
)

func (a *app) manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND]",
		Short: "Write the manual pages",
		Long: `Write the manual page of a command, or all of them with --dir. They are made from what --help says, and
the same for the same build; $SOURCE_DATE_EPOCH gives them another date than that of the build's commit.`,
		Example: `  swarmnode man join | man -l -
  swarmnode man --dir /usr/local/share/man/man1`,
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			root := a.manTree()
			date, err := a.manDate()
			if err != nil {
				return err
			}
			if dir == "" {
				c, _, err := root.Find(args)
				if err != nil || tableOf(c) != strings.Join(args, ".") {
					return unknownCommand(root, strings.Join(args, " "))
				}
				return writeManPage(a.stdout, c, date)
			}
			if len(args) > 0 {
				return misuse("--dir is for all pages: leave out %s", strings.Join(args, " "))
			}
			return writeManPages(dir, root, date)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write the pages of all commands to this `DIRECTORY`, which is made")
	return cmd
}

// manTree makes the commands as they are on a machine of which nothing is known: pages are made on one for others.
func (a *app) manTree() *cobra.Command {
	b := app{stdout: io.Discard, console: newConsole(io.Discard), env: func(name string) (string, bool) {
		dir, ok := map[string]string{"XDG_STATE_HOME": "/var/lib", "XDG_CONFIG_HOME": "/etc"}[name]
		return dir, ok
	}}
	return b.rootCommand()
}

// manDate is the date of the pages: that of the source, so that the same source gives the same pages. "" if it is not known.
func (a *app) manDate() (string, error) {
	if text, _ := a.env("SOURCE_DATE_EPOCH"); text != "" { // reproducible-builds.org/specs/source-date-epoch
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return "", misuse("SOURCE_DATE_EPOCH=%q is not a number of seconds", text)
		}
		return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
	}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "", nil
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			day, _, _ := strings.Cut(s.Value, "T")
			return day, nil
		}
	}
	return "", nil
}

// manName is the name of a command's page: swarmnode-keys-init.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func writeManPages(dir string, root *cobra.Command, date string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	eachCommand(root, func(cmd *cobra.Command) {
		name := filepath.Join(dir, manName(cmd)+"."+manSection)
		errs = append(errs, writeFile(name, func(w io.Writer) error { return writeManPage(w, cmd, date) }))
	})
	return errors.Join(errs...)
}

// manPage collects a page in the macros of man(7).
type manPage struct {
	strings.Builder
	date string
}

// writeManPage writes the page of a command.
func writeManPage(w io.Writer, cmd *cobra.Command, date string) error {
	p := manPage{date: date}
	p.line(`.TH "%s" "%s" "%s" "swarmnode" "User Commands"`, roffWord(strings.ToUpper(manName(cmd))), manSection, date)
	p.section("NAME")
	p.line("%s \\- %s", roffWord(manName(cmd)), roff(lowerFirst(cmd.Short)))
	p.section("SYNOPSIS")
	p.text(strings.Join(strings.Fields("`"+cmd.CommandPath()+"` "+synopsis(cmd)), " "))
	p.section("DESCRIPTION")
	p.prose(cmp.Or(cmd.Long, cmd.Short+"."))
	p.commands(cmd)
	if flags := ownFlags(cmd); len(flags) > 0 && cmd.HasParent() {
		p.section("OPTIONS")
		p.flags(flags)
	}
	p.section(cmp.Or(map[bool]string{true: "OPTIONS OF ALL COMMANDS"}[cmd.HasParent()], "OPTIONS"))
	p.flags(ownFlags(cmd.Root()))
	p.line(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nexplain the command.")
	if !cmd.HasParent() {
		p.line(".TP\n\\fB\\-\\-version\\fR\nprint the version, for reports of bugs.")
	}
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.code(strings.Split(strings.Trim(cmd.Example, "\n"), "\n"))
	}
	if !cmd.HasParent() {
		p.general()
	}
	p.seeAlso(cmd)
	_, err := io.WriteString(w, p.String())
	return err
}

// synopsis is how a command is written, without its name.
func synopsis(cmd *cobra.Command) string {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		rest = "COMMAND " + rest
	}
	return strings.TrimSpace(rest + " [OPTION]...")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func (p *manPage) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *manPage) section(name string) { p.line(".SH %s", name) }

// prose writes paragraphs; what is indented stays as it is.
func (p *manPage) prose(text string) {
	first := true
	for _, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if !first {
			p.line(".PP")
		}
		first = false
		if strings.HasPrefix(paragraph, "  ") {
			p.code(strings.Split(paragraph, "\n"))
		} else {
			p.text(paragraph)
		}
	}
}

// text writes running text in lines that are as short as mandoc wants them.
func (p *manPage) text(s string) {
	line := ""
	for _, word := range strings.Fields(roff(s)) {
		if line != "" && len(line)+1+len(word) > manWidth {
			p.line("%s", guarded(line))
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	p.line("%s", guarded(line))
}

// guarded keeps roff from taking a line of text as a request.
func guarded(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, `\(aq`) {
		return `\&` + line
	}
	return line
}

// code writes lines as they are, but for the two spaces that they are indented by.
func (p *manPage) code(lines []string) {
	p.line(".RS 4\n.EX")
	for _, l := range lines {
		if l = strings.TrimPrefix(l, "  "); l == "" {
			l = `\&`
		} else {
			l = guarded(roff(l))
		}
		p.line("%s", l)
	}
	p.line(".EE\n.RE")
}

func (p *manPage) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	p.section("COMMANDS")
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			p.line(".TP\n\\fB%s\\fR(%s)", roffWord(manName(c)), manSection)
			p.text(c.Short + ".")
		}
	}
}

func (p *manPage) flags(flags []*pflag.Flag) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		placeholder, usage := pflag.UnquoteUsage(f)
		if placeholder == "string" { // pflag's word for none
			placeholder = "TEXT"
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if placeholder != "" {
			placeholder = ` \fI` + roffWord(placeholder) + `\fR`
		}
		p.line(".TP\n\\fB%s\\fR%s", roffWord(name), placeholder)
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "[]" && d != "0s" {
			usage += " (default " + d + ")"
		}
		p.text(usage + ".")
	}
}

// general is what only the first page tells.
func (p *manPage) general() {
	p.section("ENVIRONMENT")
	p.prose(`Each option can be given as a variable: --disk is SWARMNODE_DISK for all commands that have it, and SWARMNODE_JOIN__DISK for
join alone, which counts more. Options count more than variables, and these more than the configuration file.`)
	p.section("FILES")
	for _, f := range [][2]string{
		{"/etc/swarmnode/swarmnode.toml", "the configuration file of root and of the service; see swarmnode-config(1)"},
		{"~/.config/swarmnode/swarmnode.toml", "that of other users"},
		{"/var/lib/swarmnode", "what root's node keeps: content and, in keys, the secret keys of what it publishes"},
		{"~/.local/state/swarmnode", "that of other users"},
	} {
		p.line(".TP\n\\fI%s\\fR", roffWord(f[0]))
		p.text(f[1] + ".")
	}
	p.section("EXIT STATUS")
	p.prose("0: done. 1: failed; the message says what to try next. 2: misused; the message says what to write instead.")
}

func (p *manPage) seeAlso(cmd *cobra.Command) {
	var names []string
	if cmd.HasParent() {
		names = append(names, manName(cmd.Parent()))
		for _, c := range cmd.Parent().Commands() {
			if c != cmd && c.IsAvailableCommand() {
				names = append(names, manName(c))
			}
		}
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, manName(c))
		}
	}
	slices.Sort(names)
	p.section("SEE ALSO")
	for i, name := range names {
		comma := ","
		if i == len(names)-1 {
			comma = ""
		}
		p.line(".BR %s (%s)%s", roffWord(name), manSection, comma)
	}
}

// roff writes a line of text so that it is read as text; `words` in backquotes become bold.
func roff(line string) string {
	var b strings.Builder
	for i, part := range strings.Split(line, "`") {
		if i%2 == 1 {
			b.WriteString(`\fB` + roffWord(part) + `\fR`)
		} else {
			b.WriteString(roffWord(part))
		}
	}
	return b.String()
}

// roffWord escapes what means something in roff, and what roff would print as a typographer's sign (man-pages(7)).
func roffWord(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
