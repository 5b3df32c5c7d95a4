package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"swarmnode/node"
	"swarmnode/node/control"
)

func (a *app) scrubCommand() *cobra.Command {
	var rate sizeFlag
	var wait, asJSON bool
	cmd := &cobra.Command{
		Use:   "scrub [--rate SIZE] [--wait]",
		Short: "Read everything that is kept now and compare it",
		Long: `Read everything that this node keeps and compare it with the hashes, as a running node does by itself in
the background. What is damaged is no longer given to anybody and fetched again from others. If no
node runs with this home directory, what it mirrors is read now, and mended by the next start.`,
		Example: "  swarmnode scrub --rate 100MB --wait",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := control.NewClient(a.home).Scrub(cmd.Context(), control.ScrubRequest{Rate: int64(rate)})
			switch {
			case errors.Is(err, control.ErrNoNode):
				return node.ScrubHome(cmd.Context(), a.home, int64(rate), a.log(), func(c control.Collection) error { return a.tellScrub(c, asJSON) })
			case err != nil:
				return err
			case wait:
				return a.waitScrub(cmd.Context(), asJSON)
			case !asJSON:
				fmt.Fprintln(a.stdout, "Reading everything that is kept; `swarmnode status` tells how it gets on.")
			}
			return nil
		},
	}
	cmd.Flags().Var(&rate, "rate", "how much to read per second, such as 100MB (default: as in the background)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all is read and what was damaged is here again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each collection, for scripts")
	return cmd
}

// waitScrub waits until no scrub runs and nothing is missing, and tells what was found.
func (a *app) waitScrub(ctx context.Context, asJSON bool) error {
	var last control.Status
	err := watch(ctx, func() (bool, error) {
		s, err := control.NewClient(a.home).Status(ctx)
		if err != nil {
			return false, err
		}
		last = s
		for _, c := range s.Collections {
			if c.Scrub.Running || c.Scrub.Missing > 0 && !c.Published {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, c := range last.Collections {
		if err := a.tellScrub(c, asJSON); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) tellScrub(c control.Collection, asJSON bool) error {
	if asJSON {
		return printJSON(a.stdout, c)
	}
	s := c.Scrub
	fmt.Fprintf(a.stdout, "%s: %d checked, %s: %d damaged, %d repaired, %d missing.\n", title(c), s.Checked, size(s.Bytes), s.Bad, s.Repaired, s.Missing)
	return nil
}
