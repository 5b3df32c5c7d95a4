package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

func (a *app) keysAcknowledgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "acknowledge ID",
		Short: "End the alarm of a collection whose keys contradicted themselves",
		Long: `End the alarm that status shows for a collection, after you have asked its publisher what happened. A release under new
keys ends it by itself. If the contradiction is still there, the alarm comes again. A node must run with the home directory.`,
		Example: "  swarmnode keys acknowledge bafkreia4ocg6i6hdiwpmjts66a7iaceo3it7qtc7hts6ghzoregtba5nem",
		Args:    oneArg("say which collection, by its ID or name: swarmnode keys acknowledge ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := control.NewClient(a.home).Acknowledge(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "The alarm of %s is over.\n", args[0])
			return nil
		},
	}
}

// alarmAdvice is what an operator does about an alarm.
func alarmAdvice(c control.Collection) string {
	if c.Published {
		return fmt.Sprintf("if the keys were stolen, stop this node, run `swarmnode keys rotate snapshot timestamp release --name %s` and publish; "+
			"if you published from two home directories, keep to one and run `swarmnode keys acknowledge %s`", quote(c.Name), c.ID)
	}
	return fmt.Sprintf("ask the publisher, by another way than this network, whether the keys were stolen; a release under new keys ends the alarm, "+
		"or you with `swarmnode keys acknowledge %s`", c.ID)
}
