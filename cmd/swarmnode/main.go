// Command swarmnode is the command line of the mirror network: one file for each command, the flags that all share in
// flags.go, how progress is shown in progress.go. It speaks to people; what it does is in package node.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailed = 1
	exitMisuse = 2
	exitKilled = 130 // by a second Ctrl-C; what a shell reports for SIGINT
)

// errInterrupted is the cause of a context that ended by Ctrl-C or by the system.
var errInterrupted = errors.New("interrupted; run the same command again to continue")

// usageError is a command line that cannot be meant. It says what to type instead.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func misuse(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func main() {
	ctx, stop := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop(errInterrupted)
		<-signals
		os.Exit(exitKilled)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program without the process around it. It gives the exit code: 0, 1 for what failed, 2 for misuse.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	console := newConsole(stderr)
	out := newTold(plainly(stdout), func() { console.Settle(unreadFor) })
	defer context.AfterFunc(ctx, out.end)()
	defer console.Flush(unreadFor)
	a := &app{stdout: out, console: console, ending: out.end, env: os.LookupEnv}
	if stderr == io.Writer(os.Stderr) {
		log.SetOutput(console) // what libraries tell by themselves
	}
	if console.journal {
		log.SetFlags(0) // the journal has the time
	}
	root := a.rootCommand()
	if completing(args) {
		a.completeWords(root)
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.console)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := out.failed(); err == nil && (cmd.Annotations[serviceAnnotation] == "" || errors.Is(lost, errUnread)) {
		err = lost // a node has done more than tell, but what nobody read may be what a script waits for
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted)) {
		err = context.Cause(ctx)
	}
	var wrong *usageError
	misused := errors.As(err, &wrong)
	a.fail(strings.TrimSpace(err.Error()))
	if misused {
		if a.logFormat != formatJSON {
			fmt.Fprintf(a.console, "See `%s --help`.\n", cmd.CommandPath())
		}
		return exitMisuse
	}
	return exitFailed
}

// app is what the commands have in common.
type app struct {
	stdout  io.Writer
	console *console // stderr
	ending  func()   // what is written to stdout need not wait for a reader any longer; may be nil
	env     func(string) (string, bool)

	home      string
	config    string // --config as given
	logLevel  string
	logFormat string
	sources   map[string]source // by flag; those that are missing have their default
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "swarmnode",
		Short: "Mirror large file trees with the help of volunteers",
		Long: `swarmnode mirrors large file trees - package archives, ISO images, data sets - from one
publisher to many volunteers, who pass it on to each other.

You publish a directory; it gets an ID, which never changes, and a release number, which
grows with each change. Others join and become mirrors, or download what they need. Every
byte is checked against the publisher's signature, so it does not matter who sent it.
Browsers, apt, dnf, curl and so on need none of this: each node serves them over HTTP.

See it work first, all on this machine and cleaned up afterwards:

  swarmnode demo`,
		Example: `  swarmnode publish ./release            # on the publisher's machine; prints the next two lines
  swarmnode join --bootstrap ADDRESS     # on a volunteer's machine: be a mirror of it
  swarmnode get ID --bootstrap ADDRESS   # anywhere: download it`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) },
	}
	root.SetFlagErrorFunc(flagError)
	root.Flags().Bool("version", false, "print the version, for reports of bugs")
	root.Version = versionLine() // has cobra print it for that flag
	root.SetVersionTemplate("{{.Version}}\n")
	a.globalFlags(root)
	root.AddCommand(a.demoCommand(), a.publishCommand(), a.joinCommand(), a.getCommand(), a.lsCommand(), a.verifyCommand(),
		a.statusCommand(), a.peersCommand(), a.collectionsCommand(), a.pauseCommand(), a.resumeCommand(), a.logsCommand(), a.limitsCommand(), a.metricsCommand(),
		a.keysCommand(), a.scrubCommand(), a.simCommand(), a.tufClientCommand(), a.configCommand(), a.manCommand(), a.completionCommand(),
		versionCommand())
	return root
}

// unknownCommand says what may have been meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := nearest(name, names); near != "" {
		return misuse("there is no command %q; did you mean `%s %s`?", name, cmd.CommandPath(), near)
	}
	return misuse("there is no command %q; there are: %s", name, strings.Join(names, ", "))
}
