package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/sim"
)

func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate a swarm of many nodes",
		Long: `Simulate many nodes in one process. They decide by the same code as real ones; only the network is
computed. The same seed gives the same answer to the byte.`,
		Example: "  swarmnode sim list\n  swarmnode sim run release --nodes 100 --set size=1024",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.simRunCommand(), a.simListCommand())
	return cmd
}

func (a *app) simListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List what can be simulated and what can be set",
		Example: "  swarmnode sim list",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, s := range sim.Scenarios() {
				fmt.Fprintf(a.stdout, "%s: %s\n", s.Name, s.Doc)
				for _, o := range s.Settings {
					fmt.Fprintf(a.stdout, "  --set %-16s %s\n", o.Name+"="+o.Value, o.Doc)
				}
			}
			return nil
		},
	}
}

func (a *app) simRunCommand() *cobra.Command {
	var (
		seed  uint64
		nodes int
		set   []string
		file  string
	)
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Simulate a scenario and print how it went",
		Example: `  swarmnode sim run flash-crowd --nodes 500 --set links=mixed --set liars=20
  swarmnode sim run release --nodes 100 --seed 7 --set size=1024 --set master=100 --csv nodes.csv`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return misuse("say which scenario: swarmnode sim run SCENARIO; there are: %s", strings.Join(scenarioNames(), ", "))
		},
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := sim.Find(args[0])
			if err != nil {
				return misuse("there is no scenario %q; there are: %s", args[0], strings.Join(scenarioNames(), ", "))
			}
			if nodes != 0 {
				set = append([]string{"nodes=" + strconv.Itoa(nodes)}, set...)
			}
			for _, kv := range set {
				k, v, ok := strings.Cut(kv, "=")
				if !ok {
					return misuse("--set %q: write it as name=value", kv)
				}
				if err := s.Set(k, v); err != nil {
					return &usageError{err.Error()}
				}
			}
			return a.simulate(s, seed, file)
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&seed, "seed", 1, "`NUMBER` that all chance comes from")
	f.IntVar(&nodes, "nodes", 0, "`NUMBER` of nodes, short for --set nodes=N")
	f.StringArrayVar(&set, "set", nil, "set something, as `NAME=VALUE`; may be repeated; `swarmnode sim list` tells what there is")
	f.StringVar(&file, "csv", "", "write a line for each node to this `FILE` (- for the standard output, instead of the summary)")
	return cmd
}

func scenarioNames() []string {
	var names []string
	for _, s := range sim.Scenarios() {
		names = append(names, s.Name)
	}
	return names
}

// simGC is the garbage, in percent of what lives, at which it is collected. What lives in a simulation are the nodes, hundreds of
// MB of small objects; the second core collects while the first simulates, so half of the usual costs no time and saves a quarter of the memory.
const simGC = 50

func (a *app) simulate(s sim.Scenario, seed uint64, file string) error {
	defer debug.SetGCPercent(debug.SetGCPercent(simGC))
	began := time.Now()
	report, err := sim.Run(s, seed)
	if err != nil {
		return err
	}
	// Not part of the report, which is the same for the same seed.
	a.note(fmt.Sprintf("simulated in %.1f s", time.Since(began).Seconds()))
	if file == "-" {
		return report.WriteCSV(a.stdout)
	}
	if file != "" {
		if err := writeFile(file, report.WriteCSV); err != nil {
			return err
		}
	}
	return report.WriteText(a.stdout)
}

// writeFile makes a file of what write writes.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
