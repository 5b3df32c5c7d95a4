package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

func (a *app) peersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "peers",
		Short:   "List the nodes that are connected",
		Long:    "Ask the node that runs with this home directory which others it is connected to, the nearest first.",
		Example: "  swarmnode peers\n  swarmnode peers --json | jq -r .addr",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.askStatus(cmd.Context())
			if err != nil {
				return err
			}
			slices.SortFunc(s.Peers, func(x, y control.Peer) int {
				return cmp.Or(cmp.Compare(orLast(x.RTT), orLast(y.RTT)), cmp.Compare(x.ID, y.ID))
			})
			if asJSON {
				for _, p := range s.Peers {
					if err := printJSON(a.stdout, p); err != nil {
						return err
					}
				}
				return nil
			}
			return a.tellPeers(s, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line, for scripts")
	return cmd
}

// orLast puts a round trip that was not measured yet last.
func orLast(rtt time.Duration) time.Duration {
	if rtt == 0 {
		return time.Hour
	}
	return rtt
}

func (a *app) tellPeers(s control.Status, now time.Time) error {
	if len(s.Peers) == 0 {
		fmt.Fprintln(a.stdout, "No other node is connected.")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tADDRESS\tBY\tROUND TRIP\tRECEIVED\tSENT\tSINCE")
	for _, p := range s.Peers {
		by := "us, " + p.Transport
		if p.Inbound {
			by = "them, " + p.Transport
		}
		rtt := "unknown"
		if p.RTT > 0 {
			rtt = p.RTT.Round(10 * time.Microsecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Addr, by, rtt, size(p.BytesIn), size(p.BytesOut), max(now.Sub(p.Since), 0).Round(time.Second))
	}
	return w.Flush()
}

// askStatus asks the running node how it is.
func (a *app) askStatus(ctx context.Context) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s, err := control.NewClient(a.home).Status(ctx)
	if err != nil {
		return s, a.unanswered(err)
	}
	return s, nil
}
