package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swarmnode/node/control"
)

// tellDashboard says where the operator sees how the node does; nothing if nowhere.
func (a *app) tellDashboard(url string) {
	if url != "" {
		fmt.Fprintf(a.stdout, "How this node does, for you: %s\n", url)
	}
}

func (a *app) metricsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Say what a node exports for Prometheus and Grafana",
		Long: `A running node tells how it is at its dashboard, by default for this machine only:

  http://127.0.0.1:4180/          a page for people
  http://127.0.0.1:4180/metrics   for Prometheus
  http://127.0.0.1:4180/health    one line, 200 when all is fine, else 503

` + "`swarmnode status`" + ` says at which address, and --dashboard of join and publish another one.`,
		Example: "  swarmnode metrics list\n  swarmnode metrics grafana > swarmnode.json    # Grafana: Dashboards, New, Import\n  swarmnode metrics alerts > /etc/prometheus/swarmnode-alerts.yml",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use:     "list",
		Short:   "List all metrics with what they mean",
		Example: "  swarmnode metrics list",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(a.stdout, control.Metrics())
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			for _, m := range control.Metrics() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Kind, m.Help)
			}
			return w.Flush()
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	cmd.AddCommand(&cobra.Command{
		Use:     "alerts",
		Short:   "Print alerting rules for Prometheus",
		Example: "  swarmnode metrics alerts > /etc/prometheus/swarmnode-alerts.yml    # and in prometheus.yml: rule_files: [swarmnode-alerts.yml]",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.stdout, control.Alerts())
			return err
		},
	}, list, &cobra.Command{
		Use:     "grafana",
		Short:   "Print a dashboard for Grafana",
		Example: "  swarmnode metrics grafana > swarmnode.json    # Grafana: Dashboards, New, Import",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.stdout, control.Grafana())
			return err
		},
	})
	return cmd
}
