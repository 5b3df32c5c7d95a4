package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// What the linker sets for a package (-X main.packaged=…), because Go finds the commit in some directories and not in others, and a package
// has the same bytes wherever it is built. Both are "" in what `go build` makes.
var (
	packaged  string // its version
	builtFrom string // the commit: "6f13405abcde of 2026-11-22"
)

// shownCommit is how much of a commit's name is shown: what git itself shows of a large repository.
const shownCommit = 12

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version, for reports of bugs",
		Long:        "Print the version, the commit of the sources and its date, the version of Go, and the system it was built for. `swarmnode --version` does the same.",
		Example:     "  swarmnode version",
		Args:        noArgs,
		Annotations: map[string]string{noFileAnnotation: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// version is what the build knows of itself: the package's version, that of the module, or the commit.
func version() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	module := ""
	if info != nil {
		module = info.Main.Version
	}
	return cmp.Or(packaged, module, "(unknown)")
}

// versionLine is all that a report of a bug should say about the program.
func versionLine() string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("swarmnode %s (%s%s, %s/%s)", versionOf(info), commitOf(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commitOf tells the commit that was built, its date, and whether the sources were changed after it; "" if the build does not know, as with
// `go run`.
func commitOf(info *debug.BuildInfo) string {
	if builtFrom != "" {
		return "commit " + builtFrom + ", "
	}
	if info == nil {
		return ""
	}
	known := map[string]string{}
	for _, s := range info.Settings {
		known[s.Key] = s.Value
	}
	commit := known["vcs.revision"]
	if commit == "" {
		return ""
	}
	day, _, _ := strings.Cut(known["vcs.time"], "T")
	text := "commit " + commit[:min(shownCommit, len(commit))]
	if day != "" {
		text += " of " + day
	}
	if known["vcs.modified"] == "true" {
		text += " with changes"
	}
	return text + ", "
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return misuse("%q is too much: the command is written `%s`", args[0], cmd.UseLine())
}
