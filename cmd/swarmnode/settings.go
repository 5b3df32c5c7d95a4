package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envPrefix begins the environment variable of each flag: --until-replicas is SWARMNODE_UNTIL_REPLICAS for all commands that have
// it, and SWARMNODE_PUBLISH__UNTIL_REPLICAS for publish alone: two underscores, as SWARMNODE_SCRUB_RATE is --scrub-rate, not
// scrub --rate.
const envPrefix = "SWARMNODE_"

// noFileAnnotation marks the commands that do not read the configuration file: those that are there to repair it, and those that
// nothing could be set for.
const noFileAnnotation = "no-file"

// source is where the value of a flag is from.
type source struct {
	place   string // a flag, a variable, or file:line
	written any    // as it is written there; nil for a flag
}

// fill gives the flags of a command their values: flag over environment over file. It notes where each is from.
func (a *app) fill(cmd *cobra.Command) error {
	if a.sources == nil {
		a.sources = map[string]source{}
	}
	var bad error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case printing(f) || bad != nil || a.sources[f.Name].place != "":
		case f.Changed:
			a.sources[f.Name] = source{place: "--" + f.Name}
		default:
			bad = a.fillFromEnv(cmd, f)
		}
	})
	if bad != nil || cmd.Annotations[noFileAnnotation] != "" {
		return bad
	}
	file, err := a.openConfig()
	if err != nil || file == nil {
		return err
	}
	settings, problems := file.check(a.freshTree)
	if len(problems) > 0 {
		return badConfig(problems)
	}
	for _, s := range settings {
		f := cmd.Flags().Lookup(s.key)
		if f == nil || tableOf(owner(cmd, f)) != s.table || a.sources[f.Name].place != "" {
			continue
		}
		if err := assign(f, s.value); err != nil {
			return badConfig([]problem{{file.path, s.line, fmt.Sprintf("%s: %v", s.key, err)}})
		}
		a.sources[f.Name] = source{fmt.Sprintf("%s:%d", file.path, s.line), s.value}
	}
	return nil
}

func (a *app) fillFromEnv(cmd *cobra.Command, f *pflag.Flag) error {
	for _, name := range []string{envName(tableOf(cmd), f.Name), envName("", f.Name)} {
		value, ok := a.env(name)
		if !ok || value == "" {
			continue
		}
		err := cmd.Flags().Set(f.Name, value)
		if err == nil {
			err = plausible(f)
		}
		if err != nil {
			return misuse("the environment has %s=%q, which is no value for --%s: %v", name, value, f.Name, plainFlagError(err))
		}
		a.sources[f.Name] = source{name, value}
		return nil
	}
	return nil
}

// envName is the variable of a flag: of one command, or with "" of all that have it.
func envName(table, flag string) string {
	name := dotted(table, flag)
	return envPrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "__").Replace(name))
}

// freshTree makes the commands once more, to try values on.
func (a *app) freshTree() *cobra.Command {
	b := app{stdout: io.Discard, console: newConsole(io.Discard), env: a.env}
	return b.rootCommand()
}

// tableOf is the table of a command in the configuration file: "keys.init"; "" for what is above all tables.
func tableOf(cmd *cobra.Command) string {
	path := strings.Fields(cmd.CommandPath())
	return strings.Join(path[1:], ".")
}

// owner is the command that defines a flag of cmd: cmd itself or one above it, whose flags its commands share.
func owner(cmd *cobra.Command, f *pflag.Flag) *cobra.Command {
	for c := cmd.Parent(); c != nil; c = c.Parent() {
		if c.PersistentFlags().Lookup(f.Name) == f {
			return c
		}
	}
	return cmd
}

// ownFlags are the flags that a command defines, without --help, by name.
func ownFlags(cmd *cobra.Command) []*pflag.Flag {
	var list []*pflag.Flag
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !printing(f) && owner(cmd, f) == cmd {
			list = append(list, f)
		}
	})
	return list
}

// settable reports whether a flag may be in the file: all but the one that names the file, the order to publish now, and those that only
// print something.
func settable(f *pflag.Flag) bool { return f.Name != "config" && f.Name != "now" && !printing(f) }

// printing reports whether a flag is one of cobra's own, with which a command prints something instead of running.
func printing(f *pflag.Flag) bool { return f.Name == "help" || f.Name == "version" }

// kind is what is written in the file for a flag.
type kind int

const (
	textKind kind = iota
	truthKind
	numberKind
	listKind
	sizeKind // a type of our own, such as a size
)

func kindOf(f *pflag.Flag) kind {
	if _, ok := f.Value.(pflag.SliceValue); ok {
		return listKind
	}
	switch f.Value.Type() {
	case "string", "duration":
		return textKind
	case "bool":
		return truthKind
	case "int", "int32", "int64", "uint", "uint16", "uint32", "uint64", "float64":
		return numberKind
	}
	return sizeKind
}

func (k kind) String() string {
	return [...]string{`text in quotes`, "true or false", "a number without quotes", `a list such as ["A", "B"]`, "text in quotes"}[k]
}

// assign gives a flag a value as the TOML decoder gives it.
func assign(f *pflag.Flag, value any) error {
	k := kindOf(f)
	var set string
	switch v := value.(type) {
	case string:
		if k == listKind {
			return assignList(f, []any{v})
		}
		if k != textKind && k != sizeKind {
			return fmt.Errorf("write %s, not %q", k, v)
		}
		set = v
	case bool:
		if k != truthKind {
			return fmt.Errorf("write %s, not %t", k, v)
		}
		set = strconv.FormatBool(v)
	case int64:
		if k != numberKind && k != sizeKind {
			return fmt.Errorf("write %s, not %d", k, v)
		}
		set = strconv.FormatInt(v, 10)
	case float64:
		if f.Value.Type() != "float64" {
			return fmt.Errorf("write %s, not %v", k, v)
		}
		set = strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		if k != listKind {
			return fmt.Errorf("write %s, not a list", k)
		}
		return assignList(f, v)
	default:
		return fmt.Errorf("write %s", k)
	}
	if err := f.Value.Set(set); err != nil {
		return errors.New(plainFlagError(err))
	}
	f.Changed = true
	return nil
}

func assignList(f *pflag.Flag, values []any) error {
	words := make([]string, 0, len(values))
	for _, v := range values {
		word, ok := v.(string)
		if n, isNumber := v.(int64); isNumber && strings.Contains(strings.ToLower(f.Value.Type()), "int") {
			word, ok = strconv.FormatInt(n, 10), true
		}
		if !ok {
			return fmt.Errorf("write %s: %v is not in quotes", listKind, v)
		}
		words = append(words, word)
	}
	if err := f.Value.(pflag.SliceValue).Replace(words); err != nil {
		return errors.New(plainFlagError(err))
	}
	f.Changed = true
	return nil
}
