package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node/control"
)

func (a *app) peersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the nodes that are connected, and what others have",
		Long: `Ask the node that runs with this home directory which others it is connected to, the nearest first; and
for each collection, which nodes have said what they have of it, those that have least first. With --json
the connected ones and what each has; swarmnode status --json has the others, too. How much it is of a release
that is not complete is known of connected nodes, and where the collection is mirrored.`,
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
					if err := printJSON(a.stdout, peerLine{p, hasOf(s.Collections, p.ID)}); err != nil {
						return err
					}
				}
				return nil
			}
			if err := a.tellPeers(s, time.Now()); err != nil {
				return err
			}
			return a.tellHolders(s.Collections)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line, for scripts")
	return cmd
}

// peerLine is a connected peer, for scripts.
type peerLine struct {
	control.Peer
	Has []peerHas `json:"has,omitempty"`
}

// peerHas is what a peer said that it has of a collection.
type peerHas struct {
	Collection content.ID `json:"collection"`
	Name       string     `json:"name"`
	Release    uint64     `json:"release"` // that it serves; 0 for none yet
	Complete   bool       `json:"complete"`
	Part       float64    `json:"part,omitempty"` // of the newest release, above 0 and below 1; absent where it is not known
}

// hasOf finds what a peer has.
func hasOf(collections []control.Collection, peer string) (list []peerHas) {
	for _, c := range collections {
		for _, h := range c.Nodes {
			if h.Peer == peer {
				list = append(list, peerHas{c.ID, c.Name, h.Release, h.Complete, h.Part})
			}
		}
	}
	return list
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

// shownHolders is how many nodes are listed of a collection.
const shownHolders = 50

// tellHolders tells who has what.
func (a *app) tellHolders(collections []control.Collection) error {
	for _, c := range collections {
		if len(c.Nodes) == 0 {
			fmt.Fprintf(a.stdout, "\n%s: no other node has said that it has anything of it.\n", brieflyTitled(c))
			continue
		}
		fmt.Fprintf(a.stdout, "\n%s, release %d: %s said what they have.\n", brieflyTitled(c), c.Head, count(c.NodesAll, "other node"))
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tHAS\tCONNECTED\tROUND TRIP\tRECEIVED\tSENT\tGATEWAY")
		shown := c.Nodes[:min(len(c.Nodes), shownHolders)]
		for _, h := range shown {
			rtt := "unknown"
			if h.RTT > 0 {
				rtt = h.RTT.Round(10 * time.Microsecond).String()
			}
			name := h.Peer
			if h.Publisher {
				name += " (publisher)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, h.Has(c.Head), h.Way, rtt, size(h.BytesIn), size(h.BytesOut), oneLine(cmp.Or(h.Gateway, "none")))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if more := c.NodesAll - len(shown); more > 0 {
			fmt.Fprintf(a.stdout, "and %d more\n", more)
		}
	}
	return nil
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
