package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swarmnode/node/control"
	"swarmnode/node/limit"
	"swarmnode/node/policy"
)

// limitFlags say how much a node gives and takes.
type limitFlags struct {
	upload   policy.Rate
	download policy.Rate
	monthly  monthlyFlag
	schedule []string
	lan      []string
}

func (f *limitFlags) addLimits(fl *pflag.FlagSet) {
	fl.Var(&f.upload, "upload", "how much to send to others at most, per second, over all protocols together and with headers, such as 20Mbit or 2.5MB")
	fl.Var(&f.download, "download", "how much to get from other nodes at most, per second, such as 100Mbit")
	fl.Var(&f.monthly, "monthly", "how much to send in a calendar month at most, such as 2TB; then nothing is given to others until it ends")
	fl.StringArrayVar(&f.schedule, "schedule", nil, "other rates at some `TIMES`, such as \"Mon-Fri 08:00-18:00 upload=5Mbit\"; may be repeated, the last that holds counts")
	fl.StringSliceVar(&f.lan, "lan", nil, "`NETWORK` that is not limited, such as 192.168.0.0/16, or none; may be repeated (default all private and link-local ones and this machine)")
}

// limitConfig checks what was said.
func (f *limitFlags) limitConfig() (limit.Config, error) {
	cfg := limit.Config{Limits: policy.Limits{Upload: f.upload, Download: f.download, Monthly: int64(f.monthly)}}
	var err error
	if cfg.Schedule, err = policy.ParseSchedule(f.schedule); err != nil {
		return cfg, misuse("--schedule: %v", err)
	}
	if f.lan != nil {
		if cfg.LAN, err = limit.ParseNetworks(f.lan); err != nil {
			return cfg, misuse("--lan: %v", err)
		}
	}
	return cfg, nil
}

// monthlyFlag is a number of bytes as people write it, or none.
type monthlyFlag int64

func (m *monthlyFlag) String() string {
	if *m == 0 {
		return "none"
	}
	return humanize.Bytes(uint64(*m))
}

func (m *monthlyFlag) Type() string { return "SIZE" }

func (m *monthlyFlag) Set(text string) error {
	n, err := policy.ParseMonthly(text)
	if err == nil {
		*m = monthlyFlag(n)
	}
	return err
}

func (a *app) limitsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Tell or change what the node that runs here may send and get",
		Long: `Tell what the node that runs with this home directory may send and get, and what it has this month.
What goes to the local network is neither limited nor counted (see --lan of join).`,
		Example: "  swarmnode limits\n  swarmnode limits set upload=5Mbit\n  swarmnode limits set monthly=3TB download=none",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			s, err := control.NewClient(a.home).Status(ctx)
			if err != nil {
				return a.limitsError(err)
			}
			if asJSON {
				return printJSON(a.stdout, s.Limits)
			}
			writeLimits(a.stdout, s.Limits, "")
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	get := &cobra.Command{Use: "get", Short: "Tell what it may send and get, as without a word", Example: "  swarmnode limits get --json", Args: noArgs, RunE: cmd.RunE}
	get.Flags().AddFlag(cmd.Flags().Lookup("json"))
	cmd.AddCommand(get, a.limitsSetCommand())
	return cmd
}

func (a *app) limitsSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set LIMIT=VALUE...",
		Short: "Change limits of the running node until it stops",
		Long: `Change limits of the node that runs with this home directory: upload and download (20Mbit, 2.5MB, none) and
monthly (2TB, none). It acts at once and holds until the node stops; entries of its schedule go on to count
above it. For good, give --upload, --download and --monthly to join or publish.`,
		Example: "  swarmnode limits set upload=5Mbit\n  swarmnode limits set monthly=3TB download=none",
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := limitsRequest(args)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			client := control.NewClient(a.home)
			if err := client.SetLimits(ctx, req); err != nil {
				return a.limitsError(err)
			}
			s, err := client.Status(ctx)
			if err != nil {
				return a.limitsError(err)
			}
			writeLimits(a.stdout, s.Limits, "")
			return nil
		},
	}
}

// limitsRequest reads upload=5Mbit and so on.
func limitsRequest(args []string) (control.LimitsRequest, error) {
	if len(args) == 0 {
		return nil, misuse("say what to change, such as `swarmnode limits set upload=5Mbit`")
	}
	req := control.LimitsRequest{}
	var check policy.Limits
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, misuse("%s: write it like upload=5Mbit; there are %s", quote(arg), strings.Join(policy.LimitNames(), ", "))
		}
		if _, twice := req[name]; twice {
			return nil, misuse("%s is said twice", name)
		}
		if err := check.Set(name, value); err != nil {
			return nil, misuse("%v", err)
		}
		req[name] = value
	}
	return req, nil
}

func (a *app) limitsError(err error) error {
	if errors.Is(err, control.ErrNoNode) {
		return fmt.Errorf("no node is running with the home directory %s: limits are given to `swarmnode join` and `swarmnode publish` by --upload, --download "+
			"and --monthly", a.home)
	}
	return err
}

// writeLimits writes what may move and what has this month.
func writeLimits(out io.Writer, l control.Limits, indent string) {
	fmt.Fprintf(out, "%slimits    upload %s, download %s\n", indent, l.Upload, l.Download)
	for _, entry := range l.Schedule {
		fmt.Fprintf(out, "%s          now by the schedule: %s\n", indent, entry)
	}
	of := ""
	if l.Monthly > 0 {
		of = fmt.Sprintf(" of %s", humanize.Bytes(uint64(l.Monthly)))
	}
	over := ""
	if l.Over {
		over = fmt.Sprintf("; nothing more is given before %s", l.Ends.Format(time.DateOnly))
	}
	fmt.Fprintf(out, "%smonth     %s: %s%s sent, %s received%s\n", indent, l.Month, humanize.Bytes(uint64(l.Sent)), of, humanize.Bytes(uint64(l.Received)), over)
}
