package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
)

// readFlags are the flags of the commands that read a release.
type readFlags struct {
	bootstrap []string
	json      bool
}

func (f *readFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.bootstrap, "bootstrap", nil, "`ADDRESS` of a node that has it, as `swarmnode publish` prints it; may be repeated (default: the node that runs with this home directory)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

func (a *app) getCommand() *cobra.Command {
	var o readFlags
	var dir string
	cmd := &cobra.Command{
		Use:   "get ID[/PATH] --bootstrap ADDRESS",
		Short: "Download a collection, a directory or a file of it",
		Long: `Download a collection, or a directory or file of it, from all nodes that have it. Every byte is
checked. What is in the target already is kept as far as it is right, so that the same command
goes on after an interruption, and brings an older copy up to date. Files that are not in the
release are left alone.`,
		Example: `  swarmnode get bafkrei… --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…
  swarmnode get bafkrei…/iso/disc1.iso -o ~/Downloads --bootstrap /ip4/…
  swarmnode get bafkrei…/pool -o ./mirror`,
		Args: wantsTarget("get", "to download"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRelease(cmd.Context(), args[0], &o, func(ctx context.Context, t target, r *node.Release) error {
				return a.get(ctx, t, r, dir, &o)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().StringVarP(&dir, "output", "o", "", "`DIRECTORY` to write to (default: one named like the collection; for a path in it the current one)")
	return cmd
}

// wantsTarget checks that there is one argument, the ID.
func wantsTarget(name, purpose string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return misuse("say what %s: swarmnode %s ID or ID/path; `swarmnode publish` prints the ID", purpose, name)
		case len(args) > 1 && strings.HasPrefix(args[1], "/") && strings.Contains(args[1], "/p2p/"):
			return misuse("give the address with --bootstrap: swarmnode %s %s --bootstrap %s", name, quote(args[0]), quote(args[1]))
		case len(args) > 1:
			return misuse("one ID or ID/path at a time (put quotes around a path with spaces): swarmnode %s %s", name, quote(args[0]))
		}
		return nil
	}
}

// withRelease opens the newest release of what is named and works with it.
func (a *app) withRelease(ctx context.Context, name string, o *readFlags, work func(context.Context, target, *node.Release) error) error {
	t, err := parseTarget(name)
	if err != nil {
		return err
	}
	if err := checkAddrs(o.bootstrap); err != nil {
		return err
	}
	err = func() error {
		c, err := node.OpenClient(ctx, node.ClientConfig{Home: a.home, Bootstrap: o.bootstrap, Log: a.log()})
		if err != nil {
			return err
		}
		defer c.Close() // it has written nothing that counts
		r, err := c.Release(ctx, t.id)
		if err != nil {
			return err
		}
		defer r.Close()
		err = work(ctx, t, r)
		if errors.Is(err, content.ErrNoEntry) {
			err = fmt.Errorf("%s is not in release %d of %s; see what there is: swarmnode ls %s", t.path, r.Head.Release, r.Head.Name,
				quote(nearestDir(ctx, t, r))+bootstrapWords(o.bootstrap))
		}
		return err
	}()
	if err != nil && interrupted(ctx) {
		return errInterrupted
	}
	return err
}

// nearestDir is the part of a path that there is.
func nearestDir(ctx context.Context, t target, r *node.Release) string {
	for p := path.Dir(t.path); p != "."; p = path.Dir(p) {
		if _, err := r.Stat(ctx, p); err == nil {
			return target{t.id, p}.String()
		}
	}
	return t.id.String()
}

func bootstrapWords(addrs []string) string {
	if len(addrs) == 0 {
		return ""
	}
	return " --bootstrap " + quote(addrs[0])
}

// getEvent is a finished get for scripts.
type getEvent struct {
	Event   string     `json:"event"`
	ID      content.ID `json:"id"`
	Name    string     `json:"name"`
	Release uint64     `json:"release"`
	Dir     string     `json:"dir"`
	Files   int        `json:"files"`
	Bytes   int64      `json:"bytes"`
	Fetched int64      `json:"fetched_bytes"`
	Kept    int64      `json:"kept_bytes"`
	Seconds float64    `json:"seconds"`
}

func (a *app) get(ctx context.Context, t target, r *node.Release, dir string, o *readFlags) error {
	if _, err := r.Stat(ctx, t.path); err != nil {
		return err
	}
	if dir == "" {
		dir = "."
		if t.path == "" {
			dir = r.Head.Name
		}
	}
	p := a.newProgress(o.json)
	res, err := r.Get(ctx, t.path, dir, func(s node.Progress) { p.update(readAt(r, s)) })
	p.end()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(a.stdout, getEvent{"got", t.id, r.Head.Name, res.Release, dir, res.Files, res.Bytes, res.Fetched, res.Kept, res.Seconds})
	}
	where := dir
	if t.path != "" {
		where = path.Join(dir, path.Base(t.path))
	}
	kept := ""
	if res.Kept > 0 {
		kept = fmt.Sprintf(", %s were there already", size(res.Kept))
	}
	fmt.Fprintf(a.stdout, "%s, release %d: %s, %s, in %s (%s fetched%s) in %s, all of it checked.\n", r.Head.Name, res.Release,
		count(res.Files, "file"), size(res.Bytes), quote(where), size(res.Fetched), kept, seconds(res.Seconds))
	return nil
}

func readAt(r *node.Release, s node.Progress) at {
	p := at{what: fmt.Sprintf("%s release %d: %s", r.Head.Name, r.Head.Release, s.Phase), done: s.Done, total: s.Total}
	if s.Peers > 0 {
		p.more = "from " + count(s.Peers, "node")
	}
	return p
}
