package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swarmnode/node"
	"swarmnode/node/limit"
	"swarmnode/node/policy"
)

// plausible refuses a value that the command would refuse later, so that a mistake in the file or the environment is told with its
// place, and by `config check` before a restart.
func plausible(f *pflag.Flag) error {
	var err error
	text, list := f.Value.String(), []string(nil)
	if s, ok := f.Value.(pflag.SliceValue); ok {
		list = s.GetSlice()
	}
	switch f.Name {
	case "log-level":
		if text != "" {
			_, err = parseLevel(text)
		}
	case "bootstrap":
		err = checkAddrs(list)
	case "schedule":
		_, err = policy.ParseSchedule(list)
	case "lan":
		_, err = limit.ParseNetworks(list)
	case "gateway":
		err = checkGateway(text)
	case "gateway-url":
		if text != "" {
			_, err = node.GatewayURL(text)
		}
	case "dashboard":
		err = checkDashboard(text)
	case "from":
		if text != "" {
			err = checkFrom(text)
		}
	case "include", "exclude":
		err = checkGlobs(f.Name, list)
	}
	if err == nil {
		return nil
	}
	return errors.New(strings.TrimPrefix(err.Error(), "--"+f.Name+" "))
}

// isHostPort reports whether text can be listened at.
func isHostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err == nil
}

func checkGateway(address string) error {
	if address == "" || address == noGateway {
		return nil
	}
	if !isHostPort(address) {
		return misuse("--gateway %s: write it as host:port, such as 127.0.0.1:8080, or :80 for all addresses of this machine", quote(address))
	}
	return nil
}

func checkDashboard(address string) error {
	if address == "" || address == noDashboard {
		return nil
	}
	if !isHostPort(address) {
		return misuse("--dashboard %s: write it as host:port, such as 127.0.0.1:4180, or \"none\"", quote(address))
	}
	return nil
}

// withoutMark takes off the mark with which some editors begin a file in UTF-8.
func withoutMark(raw []byte) []byte { return bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")) }

// mistyped names variables in the environment that nothing reads but that look like one of a flag: an upload limit that is not kept
// because of a letter would be noticed by the bill.
func mistyped(root *cobra.Command, environ []string) []string {
	known := map[string]bool{}
	eachCommand(root, func(cmd *cobra.Command) {
		for _, f := range ownFlags(cmd) {
			known[envName(tableOf(cmd), f.Name)], known[envName("", f.Name)] = true, true
		}
	})
	var names, notes []string
	for name := range known {
		names = append(names, strings.TrimPrefix(name, envPrefix))
	}
	slices.Sort(names)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		word, ours := strings.CutPrefix(name, envPrefix)
		if !ours || value == "" || known[name] {
			continue
		}
		// Closer than for what somebody types: others have variables with this prefix, too.
		if near := nearest(word, names); near != "" && distance(word, near) <= 1+len(word)/5 {
			notes = append(notes, fmt.Sprintf("the environment has %s, which is no setting and does nothing; did you mean %s?", name, envPrefix+near))
		}
	}
	slices.Sort(notes)
	return notes
}

// warnOfVariables tells of variables that were meant for a service and do nothing.
func (a *app) warnOfVariables(cmd *cobra.Command) {
	if cmd.Annotations[serviceAnnotation] == "" {
		return
	}
	for _, note := range mistyped(cmd.Root(), os.Environ()) {
		fmt.Fprintf(a.console, "swarmnode: %s\n", note)
	}
}
