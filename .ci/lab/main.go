// Command lab is the program behind the script lab beside it: it reads a topology, delays packets between the
// namespaces of a network lab as the topology says, and measures round trips and rates inside them. The script makes the
// namespaces and their links; rates are the kernel's work there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const help = `lab: what the script .ci/lab/lab needs a program for

  lab plan FILE                        the MTU, then a line per node of a topology: NAME ADDRESS UP DOWN; rates in bit/s on the
                                       wire, 0 for no limit
  lab route FILE [--tun NAME] [--owner PID]
                                       pass packets from a TUN device back into it, each after the delay of its pair;
                                       ends with status 3 when process PID has ended, with 0 on SIGTERM
  lab serve [--listen ADDR]            answer the two commands below until a signal
  lab rtt ADDR [--count N]             round-trip time by N small packets: prints "MEDIAN ms, MIN-MAX ms, LOST % lost"
  lab stream ADDR [--seconds N]        rate of one bare TCP stream to ADDR, without its first second: prints "RATE Mbit/s"

Topology, one thing per line, # begins a comment:
  NODE UP DOWN DELAY LOSS [JITTER]     UP and DOWN in Mbit/s of TCP payload (- for no limit), DELAY in ms from the node to the
                                       middle of the network (one way), LOSS in % of the packets, JITTER in ms;
                                       NODE*5 stands for NODE1 to NODE5
  pair A B DELAY [LOSS [JITTER]]       one way between these two, instead of what their own lines give
  net A.B.C.0/24                       the addresses (10.77.1.0/24 unless told; some programs take those of private networks for a LAN)
  mtu N                                largest packet (1500 unless told; with a larger one this machine carries more)
  seed N                               what losses and jitter are drawn from (1 unless told)
`

// errOwnerGone ends the router when the process that the lab was made for has ended.
var errOwnerGone = errors.New("the owner of the lab has ended")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, errOwnerGone):
		os.Exit(3)
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
	case err != nil:
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return flag.ErrHelp
	}
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.Usage = func() {}
	tun := flags.String("tun", "lab", "")
	owner := flags.Int("owner", 0, "")
	listen := flags.String("listen", ":5001", "")
	count := flags.Int("count", 20, "")
	seconds := flags.Int("seconds", 4, "")
	command, args, operand := args[0], args[1:], ""
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		operand, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch command {
	case "plan", "route":
		t, err := readTopology(operand)
		if err != nil {
			return err
		}
		if command == "route" {
			return route(ctx, t, *tun, *owner)
		}
		fmt.Println(t.MTU)
		for i, n := range t.Nodes {
			fmt.Println(n.Name, t.address(i), t.onWire(n.Up), t.onWire(n.Down))
		}
		return nil
	case "serve":
		return serve(ctx, *listen)
	case "rtt":
		return rtt(ctx, operand, *count)
	case "stream":
		return stream(ctx, operand, time.Duration(*seconds)*time.Second)
	case "help", "-h", "--help":
		return flag.ErrHelp
	}
	return fmt.Errorf("no command %q: see lab --help", command)
}
