package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

const (
	// statusTimeout bounds the wait for the running node.
	statusTimeout = 5 * time.Second
	// shownPeers is how many peers are listed for people.
	shownPeers = 10
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the node that runs here is doing",
		Long: `Ask the node that runs with this home directory how it is doing. The first line says whether there
is anything to worry about. With --follow it goes on with a line for each change of that, each new release and
each alarm, until the node stops.`,
		Example: "  swarmnode status\n  swarmnode status --json | jq .verdict\n  swarmnode status --follow",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if follow {
				return a.followStatus(cmd.Context(), asJSON)
			}
			s, err := a.askStatus(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(a.stdout)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(s)
			}
			writeStatus(a.stdout, s, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts; with --follow one object per line")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what changes")
	return cmd
}

// unanswered is what to tell when the running node could not be asked.
func (a *app) unanswered(err error) error {
	switch {
	case errors.Is(err, control.ErrNoNode) && a.home != serviceHome && serviceHere():
		return fmt.Errorf("no node is running with the home directory %s; if the service of this machine is meant, ask it as root: sudo swarmnode …, "+
			"else start a node with `swarmnode publish DIR` or `swarmnode join --bootstrap ADDRESS`, or name the directory of a running one with --home", a.home)
	case errors.Is(err, control.ErrNoNode):
		return fmt.Errorf("no node is running with the home directory %s; start one with `swarmnode publish DIR` or `swarmnode join --bootstrap ADDRESS`, "+
			"or name the directory of a running one with --home", a.home)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the node in %s does not answer within %s: it is very busy or hangs; try again, or stop and start it", a.home, statusTimeout)
	}
	return err
}

// serviceHere reports whether the home directory of a service is on this machine.
func serviceHere() bool {
	_, err := os.Stat(serviceHome)
	return err == nil
}

// writeStatus writes the verdict, then release and freshness, completeness, holders, totals and peers.
func writeStatus(out io.Writer, s control.Status, now time.Time) {
	fmt.Fprintln(out, s.Verdict)
	for _, c := range s.Collections {
		writeCollection(out, c, now)
	}
	fmt.Fprintf(out, "\nnode %s\n", s.ID)
	for _, a := range s.Addrs {
		fmt.Fprintf(out, "  address   %s\n", a)
	}
	fmt.Fprintf(out, "  reached   %s\n", reachLine(s.Reach))
	if g := s.Gateway; g != nil {
		known := ""
		switch {
		case g.URL != "":
			known = ", known to others as " + g.URL
		case g.Loopback:
			known = ", on this machine only"
		}
		fmt.Fprintf(out, "  gateway   %s%s\n", g.Local, known)
		if g.Answers+g.Refused > 0 {
			fmt.Fprintf(out, "            %d answers (%d failed), %s sent, %d refused, %d too slow, %d connections\n",
				g.Answers, g.Failed, size(int64(g.Bytes)), g.Refused, g.Slow, g.Connections)
		}
	}
	if s.Dashboard != "" {
		fmt.Fprintf(out, "  dashboard %s\n", s.Dashboard)
	}
	fmt.Fprintf(out, "  home      %s\n", s.Home)
	fmt.Fprintf(out, "  traffic   %s received, %s sent in %s\n", size(s.BytesIn), size(s.BytesOut), now.Sub(s.Started).Round(time.Second))
	writeLimits(out, s.Limits, "  ")
	for _, b := range s.Bootstrap {
		if !b.Connected {
			fmt.Fprintf(out, "  not connected to %s", b.Addr)
			if b.Error != "" {
				fmt.Fprintf(out, ": %s", b.Error)
			}
			fmt.Fprintln(out)
		}
	}
	writeOffenders(out, s.Offenders, now)
	fmt.Fprintf(out, "  peers     %d\n", len(s.Peers))
	for i, p := range s.Peers {
		if i == shownPeers {
			fmt.Fprintf(out, "    and %d more; --json lists all\n", len(s.Peers)-i)
			break
		}
		fmt.Fprintf(out, "    %s %s %s, round trip %s, %s received, %s sent\n", p.ID, p.Addr, p.Transport, p.RTT.Round(10*time.Microsecond), size(p.BytesIn), size(p.BytesOut))
	}
}

// reachLine tells how others get to the node, and what helps where they cannot.
func reachLine(r control.Reach) string {
	var line string
	switch r.Way {
	case "public":
		line = "by anybody"
		if len(r.Confirmed) > 0 {
			line += ", confirmed at " + r.Confirmed[0]
		}
		if r.Forwarded {
			line += ", which the router passes on"
		}
	case "relay":
		line = fmt.Sprintf("through %s at first, then directly where the routers let it; content passes no relay", count(len(r.Relays), "relay"))
	case "outbound":
		line = "by nobody: it serves over the connections that it opens; let TCP and UDP to its port through the router to change that"
	default:
		return "not known yet: it takes another node with a public address to find out"
	}
	if r.Punched+r.Unpunched > 0 {
		line += fmt.Sprintf("\n            %s through both routers, %d failed", count(r.Punched, "direct connection"), r.Unpunched)
	}
	if r.PunchTime > 0 {
		line += fmt.Sprintf(", the last one took %.2f s", r.PunchTime)
	}
	return line
}

// writeOffenders names peers that did what no honest node does.
func writeOffenders(out io.Writer, list []control.Offender, now time.Time) {
	for i, o := range list {
		if i == shownPeers {
			fmt.Fprintf(out, "  and %d more suspects; --json lists all\n", len(list)-i)
			break
		}
		state := "suspect"
		if o.BannedUntil.After(now) {
			state = "banned until " + o.BannedUntil.Local().Format(time.DateTime)
		}
		fmt.Fprintf(out, "  %s: %s %s %s (%d times, last %s ago)\n", state, o.Peer, o.Addr, o.What, o.Count, max(now.Sub(o.Last), 0).Round(time.Second))
	}
}

func writeCollection(out io.Writer, c control.Collection, now time.Time) {
	fmt.Fprintf(out, "\n%s\n", title(c))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if c.Name != "" {
		line("id", "%s", c.ID)
	}
	release := fmt.Sprint(c.Release)
	switch {
	case c.Release == 0 && c.Head == 0:
		release = "none yet"
	case c.Release == 0:
		release = fmt.Sprintf("none yet, fetching %d", c.Head)
	case c.Head > c.Release:
		release += fmt.Sprintf(", fetching %d", c.Head)
	}
	if !c.FreshAsOf.IsZero() {
		release += fmt.Sprintf(", fresh as of %s (%s ago)", c.FreshAsOf.Local().Format(time.DateTime), max(now.Sub(c.FreshAsOf), 0).Round(time.Second))
	}
	line("release", "%s", release)
	if !c.Expires.IsZero() {
		line("expires", "%s", c.Expires.Local().Format(time.DateTime))
	}
	if c.Published {
		writePublished(line, c, now)
	} else if c.Cache != nil {
		line("content", "%s of %s in %s", c.Phase, size(c.Bytes), count(c.Files, "file"))
		line("cache", "%s", cacheLine(*c.Cache))
		writeMirrored(line, c)
	} else {
		state := c.Phase
		if c.Complete {
			state = "complete"
		}
		line("content", "%s: %s of %s, %d of %s, %s", state, size(c.BytesHere), size(c.Bytes), c.SegmentsComplete, count(c.Segments, "segment"), count(c.Files, "file"))
		disk := size(c.BytesOnDisk)
		if c.BytesBudget > 0 {
			disk += " of " + size(c.BytesBudget) + " given"
		}
		line("disk", "%s", disk)
		writeExport(line, c.Export)
		writeMirrored(line, c)
	}
	if s := c.Scrub; s.Passes > 0 || s.Running || s.Bad > 0 {
		last := "no pass finished yet"
		if s.Passes > 0 {
			last = "last finished " + s.Finished.Local().Format(time.DateTime)
		}
		if s.Running {
			last += ", running"
		}
		line("scrub", "%s, %d checked (%s), %d damaged, %d repaired, %d missing", last, s.Checked, size(s.Bytes), s.Bad, s.Repaired, s.Missing)
	}
	if c.Lag > 0 {
		line("late", "%s missed", count(c.Lag, "heartbeat"))
	}
	if p := pausedLine(c); p != "" {
		line("paused", "%s, until `swarmnode resume`", p)
	}
	if c.Trouble != "" {
		line("trouble", "%s", c.Trouble)
	}
	if c.Alarm != "" {
		line("alarm", "%s", c.Alarm)
		line("what to do", "%s", alarmAdvice(c))
	}
}

// writeExport tells where the plain tree is, if there is one, and what it shows.
func writeExport(line func(name, format string, args ...any), e *control.Export) {
	switch {
	case e == nil:
	case e.Release == 0:
		line("export", "%s, no release yet", e.Dir)
	default:
		line("export", "%s shows release %d, %s", e.Dir, e.Release, size(e.Bytes))
	}
}

// writePublished tells what is published, and how it is kept up.
func writePublished(line func(name, format string, args ...any), c control.Collection, now time.Time) {
	line("content", "%s, %s, published from %s", count(c.Files, "file"), size(c.Bytes), c.Source)
	if c.Origin != nil {
		for i, text := range originLines(c, now) {
			line([]string{"origin", ""}[min(i, 1)], "%s", text)
		}
	}
	line("mirrors", "%d complete", c.Mirrors)
}

// writeMirrored tells from whom a mirror has what.
func writeMirrored(line func(name, format string, args ...any), c control.Collection) {
	line("holders", "%d connected, %s said they are complete%s", c.Holders, count(c.Mirrors, "other node"), partHolders(c))
	line("received", "%s, of which %s metadata and %s wasted", size(c.ReceivedBytes), size(c.MetadataBytes), size(c.WastedBytes))
}

// shownParts is how many nodes that have a part are told of in a line; `swarmnode peers` has the others.
const shownParts = 4

// partHolders tells what those have who have a part of the newest release.
func partHolders(c control.Collection) string {
	var parts []string
	more := 0
	for _, h := range c.Nodes {
		switch {
		case h.Part == 0:
		case len(parts) == shownParts:
			more++
		default:
			parts = append(parts, h.Percent())
		}
	}
	if len(parts) == 0 {
		return ""
	}
	s := "; others have " + strings.Join(parts, ", ")
	if more > 0 {
		s += fmt.Sprintf(" (and %d more a part)", more)
	}
	return s
}

// cacheLine tells how much is kept of what was asked for, and how often that saved a fetch.
func cacheLine(c control.Cache) string {
	s := fmt.Sprintf("%s of %s", size(c.Bytes), size(c.Budget))
	if all := c.Hits + c.Misses; all > 0 {
		s += fmt.Sprintf(", %d %% of %s from here", c.Hits*100/all, count(all, "request"))
	}
	return s
}
