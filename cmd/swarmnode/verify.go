package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
	"swarmnode/node/export"
)

// shownPaths is how many paths of a kind are listed for people; scripts get all.
const shownPaths = 20

func (a *app) verifyCommand() *cobra.Command {
	var o readFlags
	cmd := &cobra.Command{
		Use:   "verify DIR ID[/PATH] --bootstrap ADDRESS",
		Short: "Compare a directory with the newest release",
		Long: `Read every file of a directory and compare it with the newest release. Nothing is changed. The exit
code is 0 if all of the release is there and right. DIR is what was given to get with -o, so for
a PATH it is the directory that holds it. Files that the release does not have, other permissions
and other times are told but do not count.`,
		Example: `  swarmnode verify ./parsix bafkrei… --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				if _, err := parseTarget(args[0]); err == nil {
					return misuse("the directory comes first: swarmnode verify %s %s", quote(args[1]), quote(args[0]))
				}
				return nil
			}
			return misuse("say which directory to compare with what: swarmnode verify DIR ID or ID/path")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseTarget(args[1]); err != nil {
				return err
			}
			if err := checkDir(args[0]); err != nil {
				return err
			}
			return a.withRelease(cmd.Context(), args[1], &o, func(ctx context.Context, t target, r *node.Release) error {
				return a.verify(ctx, args[0], t, r, &o)
			})
		},
	}
	o.add(cmd)
	return cmd
}

// verifyEvent is a finished verify for scripts.
type verifyEvent struct {
	OK         bool       `json:"ok"`
	ID         content.ID `json:"id"`
	Name       string     `json:"name"`
	Release    uint64     `json:"release"`
	Files      int        `json:"files"`
	Bytes      int64      `json:"bytes"`
	Missing    []string   `json:"missing,omitempty"`
	Changed    []string   `json:"changed,omitempty"`
	Unreadable []string   `json:"unreadable,omitempty"`
	Extra      []string   `json:"extra,omitempty"`
	WrongMode  []string   `json:"wrong_mode,omitempty"`
	WrongTime  []string   `json:"wrong_time,omitempty"`
}

func (a *app) verify(ctx context.Context, dir string, t target, r *node.Release, o *readFlags) error {
	if _, err := r.Stat(ctx, t.path); err != nil {
		return err
	}
	p := a.newProgress(o.json)
	rep, err := r.Verify(ctx, t.path, dir, func(s node.Progress) { p.update(readAt(r, s)) })
	p.end()
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(a.stdout, verifyEvent{rep.OK(), t.id, r.Head.Name, r.Head.Release, rep.Files, rep.Bytes, rep.Missing, rep.Changed,
			rep.Unreadable, rep.Extra, rep.WrongMode, rep.WrongTime})
		if err != nil {
			return err
		}
	} else {
		a.tellReport(rep)
	}
	if !rep.OK() {
		return errors.New(summary(rep) + fmt.Sprintf("; put it right with: swarmnode get %s -o %s%s", quote(t.String()), quote(dir), bootstrapWords(o.bootstrap)))
	}
	if !o.json {
		fmt.Fprintf(a.stdout, "%s is right: all of %s release %d is there, %s, %s, every byte compared.\n", quote(dir), r.Head.Name, r.Head.Release,
			count(rep.Files, "file"), size(rep.Bytes))
	}
	return nil
}

// tellReport lists what differs.
func (a *app) tellReport(rep export.Report) {
	for _, l := range []struct {
		what  string
		paths []string
	}{
		{"missing", rep.Missing}, {"different", rep.Changed}, {"cannot be read", rep.Unreadable}, {"not in the release", rep.Extra},
		{"other permissions", rep.WrongMode}, {"other time", rep.WrongTime},
	} {
		for i, p := range l.paths {
			if i == shownPaths {
				fmt.Fprintf(a.stdout, "%s: and %d more; --json lists all\n", l.what, len(l.paths)-i)
				break
			}
			fmt.Fprintf(a.stdout, "%s: %s\n", l.what, p)
		}
	}
}

func summary(rep export.Report) string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{len(rep.Missing), "missing"}, {len(rep.Changed), "different"}, {len(rep.Unreadable), "not readable"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}
