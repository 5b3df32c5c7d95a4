package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

func (a *app) collectionsCommand() *cobra.Command {
	var asJSON bool
	list := func(cmd *cobra.Command, _ []string) error { return a.listCollections(cmd.Context(), asJSON) }
	cmd := &cobra.Command{
		Use:   "collections",
		Short: "List, add and remove what the running node mirrors",
		Long: `List the collections of the node that runs with this home directory, add one that it is to mirror,
or remove one. What is added or removed is so after a restart, too.`,
		Example: `  swarmnode collections
  swarmnode collections add bafkrei… --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…
  swarmnode collections remove debian --dry-run     # says what would be deleted`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: list,
	}
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, one object per line, for scripts")
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "List the collections", Example: "  swarmnode collections list --json", Args: noArgs, RunE: list},
		a.addCommand(&asJSON), a.removeCommand(&asJSON))
	return cmd
}

func (a *app) listCollections(ctx context.Context, asJSON bool) error {
	s, err := a.askStatus(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		for _, c := range s.Collections {
			if err := printJSON(a.stdout, c); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.Collections) == 0 {
		fmt.Fprintln(a.stdout, "There is no collection here; add one with `swarmnode collections add ID --bootstrap ADDRESS`.")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tRELEASE\tSIZE\tSTATE")
	for _, c := range s.Collections {
		name := c.Name
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", name, c.ID, c.Release, size(c.Bytes), collectionState(c))
	}
	return w.Flush()
}

// collectionState is how a collection stands in a few words.
func collectionState(c control.Collection) string {
	switch {
	case c.Alarm != "":
		return "alarm"
	case pausedLine(c) != "":
		return "paused: " + pausedLine(c)
	case c.Trouble != "":
		return "trouble"
	case c.Published:
		return "published"
	case c.Complete:
		return "complete"
	}
	return c.Phase
}

func (a *app) addCommand(asJSON *bool) *cobra.Command {
	var req control.AddRequest
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Mirror another collection",
		Long: `Have the running node mirror another collection. It is fetched in the background; ` + "`swarmnode status`" + `
tells how it gets on. With --bootstrap the node connects to somebody who may have it; without,
it looks for holders among those it knows and in the DHT.`,
		Example: "  swarmnode collections add bafkrei… --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…",
		Args:    oneArg("say which collection, by its ID: swarmnode collections add ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			if t.path != "" {
				return misuse("%s: a mirror keeps a whole collection: swarmnode collections add %s", args[0], t.id)
			}
			if err := checkAddrs(req.Bootstrap); err != nil {
				return err
			}
			req.ID = t.id
			c, err := control.NewClient(a.home).Add(cmd.Context(), req)
			if err != nil {
				return a.unanswered(err)
			}
			if *asJSON {
				return printJSON(a.stdout, c)
			}
			fmt.Fprintf(a.stdout, "Mirroring %s; `swarmnode status` tells how it gets on.\n", title(c))
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&req.Bootstrap, "bootstrap", nil, "`ADDRESS` of a node that has it, as that node prints it; may be repeated")
	cmd.Flags().BoolVar(&req.CacheOnly, "cache-only", false, "keep only what is asked for, as far as the disk given goes")
	return cmd
}

func (a *app) removeCommand(asJSON *bool) *cobra.Command {
	var req control.RemoveRequest
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Stop mirroring a collection and delete what is kept of it",
		Long: `Have the running node give up a collection, given by its name or ID: nothing of it is fetched or served
any more, and its directory in the home directory is deleted: content, metadata, and what was verified of its
signatures. Keys, other collections and the files that a publisher published are not touched.

With --keep that directory stays: it does not count as given disk any more, and ` + "`swarmnode collections add`" + `
goes on with it. A collection that is published from here can only be removed with --keep.`,
		Example: "  swarmnode collections remove debian --dry-run\n  swarmnode collections remove debian",
		Args:    oneArg("say which collection, by its name or ID: swarmnode collections remove NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Collection = args[0]
			r, err := control.NewClient(a.home).Remove(cmd.Context(), req)
			if err != nil {
				return a.unanswered(err)
			}
			if *asJSON {
				return printJSON(a.stdout, r)
			}
			fmt.Fprintln(a.stdout, removedText(r, req.DryRun))
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Keep, "keep", false, "leave what is on disk where it is")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be deleted")
	return cmd
}

// removedText says what was deleted and what was not.
func removedText(r control.Removed, dry bool) string {
	name := r.Name
	if name == "" {
		name = r.ID.String()
	}
	is, deleted, stays := "is not mirrored any more", "Deleted", "stays"
	if r.Published {
		is = "is not published any more"
	}
	if dry {
		is, deleted, stays = "would be given up", "To be deleted", "would stay"
	}
	if r.Kept {
		return fmt.Sprintf("%s %s. Nothing is deleted: %s with %s %s.", name, is, r.Dir, size(r.Bytes), stays)
	}
	return fmt.Sprintf("%s %s. %s: %s with %s: content, metadata and what was verified of it. All of it can be fetched again.", name, is, deleted, r.Dir, size(r.Bytes))
}
