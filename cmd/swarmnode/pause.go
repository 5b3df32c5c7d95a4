package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

func (a *app) pauseCommand() *cobra.Command {
	var p control.Paused
	cmd := &cobra.Command{
		Use:   "pause [NAME]",
		Short: "Stop fetching and serving for a while",
		Long: `Have the running node fetch and serve nothing of a collection, given by its name or ID, or of all that
are here. It stays so, also after a restart, until ` + "`swarmnode resume`" + `. Transfers under way end. Nothing
is deleted; the node goes on to hear of new releases, and a publisher's goes on to confirm his.`,
		Example: "  swarmnode pause\n  swarmnode pause debian --fetching    # what is here goes on to be served",
		Args:    atMostOne("one collection at a time: swarmnode pause NAME; without a name all are paused"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (p == control.Paused{}) {
				p = control.Paused{Fetching: true, Serving: true}
			}
			return a.changePause(cmd, args, control.PauseRequest{Paused: p})
		},
	}
	cmd.Flags().BoolVar(&p.Fetching, "fetching", false, "only stop fetching")
	cmd.Flags().BoolVar(&p.Serving, "serving", false, "only stop serving")
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume [NAME]",
		Short:   "Go on with what was paused",
		Long:    "Have the running node fetch and serve a collection again, given by its name or ID, or all that are here.",
		Example: "  swarmnode resume\n  swarmnode resume debian",
		Args:    atMostOne("one collection at a time: swarmnode resume NAME; without a name all go on"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changePause(cmd, args, control.PauseRequest{Resume: true})
		},
	}
}

// changePause asks the running node and says how each collection stands now.
func (a *app) changePause(cmd *cobra.Command, args []string, req control.PauseRequest) error {
	req.Collection = strings.Join(args, "")
	list, err := control.NewClient(a.home).Pause(cmd.Context(), req)
	if err != nil {
		return a.unanswered(err)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.stdout, "There is no collection here.")
	}
	for _, c := range list {
		state := pausedLine(c)
		if state == "" {
			state = "nothing is paused"
		}
		fmt.Fprintf(a.stdout, "%s: %s.\n", title(c), state)
	}
	return nil
}

// pausedLine says what a collection does not do on request; "" if it does everything.
func pausedLine(c control.Collection) string {
	switch p := c.Paused; {
	case p.Serving && (p.Fetching || c.Published):
		return "nothing is fetched or served"
	case p.Serving:
		return "nothing is served"
	case p.Fetching:
		return "nothing is fetched"
	}
	return ""
}

// atMostOne is the check of a command with one argument or none.
func atMostOne(text string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return misuse("%s", text)
		}
		return nil
	}
}
