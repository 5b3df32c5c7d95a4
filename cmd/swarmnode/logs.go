package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

// defaultLogs is how many records are shown: some screens full.
const defaultLogs = 100

func (a *app) logsCommand() *cobra.Command {
	var follow, asJSON bool
	var level string
	var n int
	cmd := &cobra.Command{
		Use:   "logs [-f]",
		Short: "Show what the running node has logged",
		Long: `Show the newest records of the log of the node that runs with this home directory; with -f also those
that follow, until the node stops. The node keeps the last 1000 in memory. Those of level debug are kept only
while somebody follows them with --level debug, or if it runs with --log-level debug.

With --json each record is an object in a line, as the node itself writes them with --log-format json:

  time          UTC, with microseconds
  level         DEBUG, INFO, WARN or ERROR; somebody may have to act on WARN, and has to on ERROR
  msg           what happened, always in the same words; for WARN and ERROR with what to do about it

and a key for each fact, of which these mean the same everywhere:

  error         what went wrong, in words
  collection    the ID of a collection
  name          its name, as its publisher calls it
  release       the number of a release
  peer          the ID of another node
  address       where a node is reached
  file, path    a file of this machine; a file of a collection
  lost_before   how many records were left out before this one, because the reader was slow; on the node's
                own standard error this is a record of its own, for the lines that are missing there

Numbers and truth values are such, times are as above without fractions, lengths of time are like 1m30s.
No record has a key, a password or what is in a file. Under systemd the lines of text have no time, for
its journal notes that, and all lines begin with their rank, which the journal takes away: journalctl -p
warning shows what somebody may have to act on.`,
		Example: "  swarmnode logs -f\n  swarmnode logs --level warn\n  swarmnode logs -f --level debug    # see what it does now, without a restart",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseLevel(level)
			if err != nil {
				return misuse("--level %q: say debug, info, warn or error", level)
			}
			if n < 0 {
				return misuse("--lines %d: say how many", n)
			}
			err = control.NewClient(a.home).Logs(cmd.Context(), from, n, follow, func(r control.LogRecord) error {
				if asJSON {
					return jsonRecord(a.stdout, r)
				}
				_, err := fmt.Fprint(a.stdout, recordLine(r))
				return err
			})
			return a.streamEnded(cmd.Context(), err)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on")
	cmd.Flags().StringVar(&level, "level", "info", "the least `LEVEL` to show: debug, info, warn or error")
	cmd.Flags().IntVarP(&n, "lines", "n", defaultLogs, "how many records to begin with")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line, for scripts")
	return cmd
}

// recordLine writes a record as the node's own standard error has it, with the date.
func recordLine(r control.LogRecord) string {
	var b strings.Builder
	if r.Lost > 0 {
		fmt.Fprintf(&b, "(%s left out: they came too fast)\n", count(r.Lost, "record"))
	}
	b.WriteString(r.Time.Local().Format(time.DateTime) + " " + levelWord(r.Level) + strings.ReplaceAll(r.Message, "\n", " "))
	for i, x := range r.Attrs {
		sep := ", "
		if i == 0 {
			sep = " ("
		}
		b.WriteString(sep + x.Key + " " + oneLine(x.Value))
	}
	if len(r.Attrs) > 0 {
		b.WriteByte(')')
	}
	b.WriteByte('\n')
	return b.String()
}

// followStatus tells what changes, until the node stops.
func (a *app) followStatus(ctx context.Context, asJSON bool) error {
	err := control.NewClient(a.home).Events(ctx, func(e control.Event) error {
		if asJSON {
			return printJSON(a.stdout, e)
		}
		_, err := fmt.Fprintf(a.stdout, "%s %s\n", e.Time.Local().Format(time.TimeOnly), eventText(e))
		return err
	})
	return a.streamEnded(ctx, err)
}

func eventText(e control.Event) string {
	switch {
	case e.Type == control.EventStatus:
		return e.Verdict
	case e.Type == control.EventRelease:
		return fmt.Sprintf("%s: release %d is served", title(*e.Collection), e.Collection.Release)
	case e.Type == control.EventAlarm && e.Collection.Alarm == "":
		return fmt.Sprintf("%s: the alarm is over", title(*e.Collection))
	case e.Type == control.EventAlarm:
		return fmt.Sprintf("%s: alarm: %s", title(*e.Collection), e.Collection.Alarm)
	case e.Type == control.EventEnd:
		return "the node stops"
	}
	return e.Type // of a node of a later version
}

// streamEnded says how following ended: that the user wanted it is no failure.
func (a *app) streamEnded(ctx context.Context, err error) error {
	if err == nil || interrupted(ctx) {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return a.unanswered(err)
}
