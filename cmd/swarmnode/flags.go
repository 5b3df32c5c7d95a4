package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swarmnode/node/policy"
)

// serviceAnnotation marks the commands that run until they are stopped; they tell more by default.
const serviceAnnotation = "service"

// serviceHome is the home directory of root's node and of the Debian package's service, whose orders root may give.
const serviceHome = "/var/lib/swarmnode"

func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", "", "directory of all that is kept: keys, content, what was verified (default "+a.defaultHome()+")")
	f.StringVar(&a.config, "config", "", "`FILE` with settings; \"none\" for no file (default "+a.defaultConfig()+", if there is one; see swarmnode config)")
	f.StringVar(&a.logLevel, "log-level", "", "how much to tell on stderr: debug, info, warn or error (default: info for join and publish, else warn)")
	f.StringVar(&a.logFormat, "log-format", formatText, "how to tell it: text for people, or json for programs, one object per line (see swarmnode logs)")
}

// settle completes the flags of a command: what was not given comes from the environment, then from the configuration file, then
// from the defaults.
func (a *app) settle(cmd *cobra.Command) error {
	if cmd.Name() == cobra.ShellCompRequestCmd {
		return nil // the command to be completed is settled instead
	}
	if err := a.fill(cmd); err != nil {
		return err
	}
	if a.logLevel == "" {
		a.logLevel = "warn"
		if cmd.Annotations[serviceAnnotation] != "" {
			a.logLevel = "info"
		}
	}
	if _, err := parseLevel(a.logLevel); err != nil {
		return err
	}
	if f := a.logFormat; f != formatText && f != formatJSON {
		a.logFormat = formatText
		return misuse("--log-format %q: say text or json", f)
	}
	a.console.inJSON(a.logFormat == formatJSON)
	a.warnOfVariables(cmd)
	if a.home == "" {
		a.home = a.defaultHome()
	}
	home, err := filepath.Abs(a.home)
	if err != nil {
		return fmt.Errorf("home directory %s: %w", a.home, err)
	}
	a.home = home
	return nil
}

// defaultHome is where everything is kept unless --home or SWARMNODE_HOME say otherwise.
func (a *app) defaultHome() string {
	if dirs, _ := a.env("STATE_DIRECTORY"); dirs != "" { // of a systemd service; the first of a list
		dir, _, _ := strings.Cut(dirs, ":")
		return dir
	}
	if dir, _ := a.env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "swarmnode")
	}
	user, err := os.UserHomeDir()
	switch {
	case ofService(os.Geteuid(), user):
		return serviceHome
	case err != nil:
		return ".swarmnode"
	}
	return filepath.Join(user, ".local", "state", "swarmnode")
}

// ofService reports whether what a user with that home directory says is about the service of this machine: root's commands are, and
// those of the user as whom the service runs.
func ofService(uid int, home string) bool { return uid == 0 || home == serviceHome }

func parseLevel(s string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	l, ok := levels[s]
	if !ok {
		return 0, misuse("--log-level %q: say debug, info, warn or error", s)
	}
	return l, nil
}

// flagError says what is wrong with a flag and which one may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	text := plainFlagError(err)
	if m := regexp.MustCompile(`^unknown flag: --([^ =]+)`).FindStringSubmatch(text); m != nil {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(m[1], names); near != "" {
			return misuse("%s; did you mean --%s?", text, near)
		}
	}
	return misuse("%s; the command is written `%s`", text, cmd.UseLine())
}

// plainFlagError takes the Go out of a message about a value.
func plainFlagError(err error) string {
	text := regexp.MustCompile(`strconv\.\w+: parsing ("[^"]*"): `).ReplaceAllString(err.Error(), "")
	return strings.TrimSuffix(text, " in -")
}

// nearest finds what a mistyped word may mean; "" if nothing is near.
func nearest(word string, words []string) string {
	best, least := "", 1+len(word)/3
	for _, w := range words {
		d := distance(word, w)
		if len(word) >= 2 && strings.HasPrefix(w, word) {
			d = 0
		}
		if d <= least && (best == "" || d < least) {
			best, least = w, d
		}
	}
	return best
}

// distance is the least number of letters to change, add or leave out (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// sizeFlag is a number of bytes as people write it.
type sizeFlag int64

func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return humanize.IBytes(uint64(*s))
}

func (s *sizeFlag) Type() string { return "SIZE" }

// Set reads 500GB, 1.5TiB, 20G.
func (s *sizeFlag) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<62 {
		return fmt.Errorf("%q is not a size: write it like 500GB or 1.5TiB", text)
	}
	if policy.LacksUnit(text, n) {
		return fmt.Errorf("%q is %d bytes: write it like 500GB or 1.5TiB", text, n)
	}
	*s = sizeFlag(n)
	return nil
}
