package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swarmnode/node"
	"swarmnode/node/control"
)

// completionTimeout is how long a person who pressed Tab is kept waiting for the running node. It is asked over a local socket and
// answers in milliseconds, or hangs.
const completionTimeout = 500 * time.Millisecond

// bashWords stands in for what cobra's script for bash needs of the package bash-completion, where that is missing.
//
//go:embed completion.bash
var bashWords string

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(root *cobra.Command, w io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error {
			if _, err := io.WriteString(w, bashWords); err != nil {
				return err
			}
			return root.GenBashCompletionV2(w, true)
		},
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print what makes a shell complete commands, flags and names with Tab",
		Long: `Print a script for bash, zsh or fish. With it, Tab completes commands and flags, the IDs of the collections
that the running node has, and the names of those that are published from here.`,
		Example: `  source <(swarmnode completion bash)      # in ~/.bashrc
  swarmnode completion bash > /usr/share/bash-completion/completions/swarmnode   # for all users
  swarmnode completion zsh > /usr/share/zsh/vendor-completions/_swarmnode
  swarmnode completion fish > ~/.config/fish/completions/swarmnode.fish`,
		Annotations: map[string]string{noFileAnnotation: "yes"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && shells[args[0]] != nil {
				return nil
			}
			return misuse("say for which shell: swarmnode completion bash, zsh or fish")
		},
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root(), a.stdout) },
	}
}

// completing reports whether the arguments ask for completions, which a shell does whenever Tab is pressed.
func completing(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completeWords has the arguments and flags of all commands completed by what their usage calls them: DIR, ID, NAME and so on.
func (a *app) completeWords(root *cobra.Command) {
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
			cmd.ValidArgsFunction = a.completeArgs(strings.Fields(cmd.Use)[1:])
		}
		for _, f := range ownFlags(cmd) {
			word, _ := pflag.UnquoteUsage(f)
			switch f.Name {
			case "name", "collection":
				word = strings.ToUpper(f.Name)
			case "replace", "log-level", "log-format":
				word = f.Name
			}
			if f.Value.Type() == "bool" {
				continue
			}
			err := cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return a.complete(cmd, word)
			})
			if err != nil {
				panic(err) // one flag, two completions
			}
		}
	})
}

// completeArgs completes the arguments that a usage names; the last one again if it is "NAME...".
func (a *app) completeArgs(usage []string) cobra.CompletionFunc {
	var words []string
	repeated := false
	for _, word := range usage {
		if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "[-") {
			break
		}
		repeated = strings.HasSuffix(strings.TrimSuffix(word, "]"), "...")
		word, _, _ = strings.Cut(strings.TrimPrefix(word, "["), "[")
		words = append(words, strings.Trim(word, "[]."))
		repeated = repeated || word == "COMMAND]" // "keys init" is one
	}
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		at := len(args)
		if repeated && at >= len(words) {
			at = len(words) - 1
		}
		if at >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(cmd, words[at], args...)
	}
}

// complete gives what a word in a usage can stand for.
func (a *app) complete(cmd *cobra.Command, word string, before ...string) ([]string, cobra.ShellCompDirective) {
	var list []string
	switch word {
	case "FILE", "TRUSTED_ROOT":
		return nil, cobra.ShellCompDirectiveDefault
	case "DIR", "DIRECTORY":
		return nil, cobra.ShellCompDirectiveFilterDirs
	case "ID", "COLLECTION":
		list = a.liveCollections(cmd, func(c control.Collection, name string) string {
			return fmt.Sprintf("%s\t%s, release %d", c.ID, name, c.Release)
		})
	case "NAME":
		if table := tableOf(cmd); table == "publish" || strings.HasPrefix(table, "keys.") {
			list = a.publishedNames(cmd)
			break
		}
		list = a.liveCollections(cmd, nameOrID)
	case "ROLE":
		list = []string{"root", "targets", "release", "snapshot", "timestamp"}
	case "SCENARIO":
		list = scenarioNames()
	case "SHELL":
		list = []string{"bash", "zsh", "fish"}
	case "log-level":
		list = []string{"debug", "info", "warn", "error"}
	case "log-format":
		list = []string{formatText, formatJSON}
	case "COMMAND":
		if c, rest, err := cmd.Root().Find(before); err == nil && len(rest) == 0 {
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					list = append(list, sub.Name()+"\t"+sub.Short)
				}
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// nameOrID is the name of a collection, if a shell and its commands take it as it is: the publisher chose it.
func nameOrID(c control.Collection, name string) string {
	if quote(name) != name || strings.HasPrefix(name, "-") {
		return c.ID.String()
	}
	return name
}

// liveCollections names those that the running node has; none if there is no node, or if it does not answer at once.
func (a *app) liveCollections(cmd *cobra.Command, text func(c control.Collection, name string) string) (list []string) {
	if a.settle(cmd) != nil {
		return nil // a person who types is not told about it now, but when the command runs
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	s, err := control.NewClient(a.home).Status(ctx)
	if err != nil {
		return nil
	}
	for _, c := range s.Collections {
		name := strings.Map(func(r rune) rune { // the publisher chose it, and it goes to the terminal
			if unicode.IsPrint(r) {
				return r
			}
			return '?'
		}, c.Name)
		list = append(list, text(c, name))
	}
	return list
}

// publishedNames are those of which the keys are in the home directory, without such as a shell would not take as they are.
func (a *app) publishedNames(cmd *cobra.Command) (list []string) {
	if a.settle(cmd) != nil {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(node.KeysDir(a.home, "name")))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && quote(e.Name()) == e.Name() {
			list = append(list, e.Name())
		}
	}
	return list
}
