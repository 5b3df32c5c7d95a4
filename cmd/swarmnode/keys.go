package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content/durable"
	"swarmnode/gossip/trust"
	"swarmnode/node"
)

// offlineRoles are those whose keys are carried away by default: root says who may sign at all, targets who signs releases.
const offlineRoles = "root,targets"

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show, rotate and use a publisher's keys",
		Long: `A collection has the roles root, targets, release, snapshot and timestamp, each with its own keys.
Without a word about them, publish makes one key for each and keeps it in the home directory.
Those who publish for many keep the keys of root and targets elsewhere, with several people.`,
		Example: `  swarmnode keys init debian --threshold 2 --keys 3 --out ./holders
  swarmnode publish --prepare request.json --name debian ./archive
  swarmnode keys sign request.json --keys /media/stick
  swarmnode publish --signed request.json --name debian ./archive`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(a.keysInitCommand(), a.keysShowCommand(), a.keysSignCommand(), a.keysRotateCommand(), a.keysAcknowledgeCommand())
	return cmd
}

func (a *app) keysInitCommand() *cobra.Command {
	var plan trust.KeyPlan
	var offline string
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make the keys of a new collection before its first publish",
		Long: `Make the keys of a collection. Those of root and targets go to one folder for each key, to be carried away
by their holders; the others stay in the home directory. NAME may be the directory to publish.`,
		Example: "  swarmnode keys init debian --threshold 2 --keys 3 --out ./holders",
		Args:    oneArg("say the name of the collection: swarmnode keys init NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := filepath.Base(filepath.Clean(args[0]))
			if err := trust.CheckName(name); err != nil {
				return err
			}
			if plan.Out == "" {
				plan.Out = name + "-keys"
			}
			plans := map[string]trust.KeyPlan{}
			for _, role := range strings.Split(offline, ",") {
				plans[strings.TrimSpace(role)] = plan
			}
			_, id, err := trust.InitPlan(node.KeysDir(a.home, name), time.Now(), trust.Lifetimes{}, plans)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "The collection %s has the ID\n  %s\n\n", name, id)
			fmt.Fprintf(a.stdout, `Keys of %s: %d each, of which %d must sign. Each is in a folder of its own in
  %s
Move each folder to another person's encrypted stick or disk, then delete it here. With fewer than %d
keys of root left, nobody can ever replace a key again; a thief needs as many.

The other keys stay in %s: keep a copy of that directory.

Next: swarmnode publish --prepare request.json --name %s DIR
`, offline, plan.Keys, plan.Threshold, plan.Out, plan.Threshold, node.KeysDir(a.home, name), quote(name))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&plan.Keys, "keys", 3, "`N` keys for each role that is carried away")
	f.IntVar(&plan.Threshold, "threshold", 2, "`K` of them must sign")
	f.StringVar(&plan.Out, "out", "", "`DIRECTORY` for the folders to carry away (default: NAME-keys)")
	f.StringVar(&offline, "offline", offlineRoles, "the `ROLES` whose keys are carried away")
	return cmd
}

func oneArg(text string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misuse("%s", text)
		}
		return nil
	}
}

// keyRing opens the keys of a collection that no running node uses.
func (a *app) keyRing(name string) (*node.KeyRing, error) {
	r, err := node.OpenKeyRing(a.home, name)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	return r, nil
}

func (a *app) keysShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Tell the keys of a collection, where they are and until when what they signed is valid",
		Long:    "Tell the roles of a collection: thresholds, keys, where each private key is, and expiries. No node may run with\nthe home directory.",
		Example: "  swarmnode keys show debian",
		Args:    oneArg("say which collection: swarmnode keys show NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.keyRing(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			list := r.Signer.Show()
			if asJSON {
				return printJSON(a.stdout, list)
			}
			fmt.Fprintf(a.stdout, "%s, ID %s, root %d\n", args[0], r.Keys.ID(), r.Keys.RootVersion())
			for _, role := range list {
				fmt.Fprintf(a.stdout, "%s: %d of %s", role.Role, role.Threshold, count(len(role.Keys), "key"))
				if !role.Expires.IsZero() {
					fmt.Fprintf(a.stdout, ", valid until %s", role.Expires.Format(time.DateOnly))
				}
				if role.Pending {
					fmt.Fprint(a.stdout, ", once targets is signed")
				}
				fmt.Fprintln(a.stdout)
				for _, k := range role.Keys {
					where := k.File
					if where == "" {
						where = "elsewhere"
					}
					fmt.Fprintf(a.stdout, "  %.8s  %s\n", k.ID, where)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	return cmd
}

func (a *app) keysSignCommand() *cobra.Command {
	var keys []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a request with keys that are kept on this machine",
		Long: `Show what a signing request asks for, and sign it with the keys in some files or directories. This needs no
network and no home directory. Copies of one request may be signed at the same time by several holders.`,
		Example: "  swarmnode keys sign request.json --keys /media/stick",
		Args:    oneArg("say which request: swarmnode keys sign FILE --keys DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return misuse("say where the keys are: swarmnode keys sign %s --keys DIRECTORY", quote(args[0]))
			}
			req, err := readRequest(args[0])
			if err != nil {
				return err
			}
			lines, err := req.Summary()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "To be signed:\n  %s\n", strings.Join(lines, "\n  "))
			if !yes && !confirmed(a.stdout, cmd.InOrStdin()) {
				return fmt.Errorf("nothing was signed")
			}
			done, err := req.SignFiles(keys...)
			if err != nil {
				return err
			}
			for id, roles := range done {
				fmt.Fprintf(a.stdout, "Signed with %.8s: %s\n", id, strings.Join(roles, ", "))
			}
			if err := req.Missing(); err != nil {
				fmt.Fprintf(a.stdout, "Still missing: %s\n", err)
			} else {
				fmt.Fprintln(a.stdout, "All signatures are there: bring the file back to the publisher.")
			}
			return writeRequest(args[0], req)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "keys", nil, "`FILE` of a key, or directory with key files; may be repeated")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the same as --keys, for one `FILE`")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func confirmed(out io.Writer, in io.Reader) bool {
	fmt.Fprint(out, "Sign this? Type yes: ")
	line, _ := bufio.NewReader(in).ReadString('\n') // nothing read is no
	return strings.TrimSpace(line) == "yes"
}

func readRequest(path string) (*trust.Request, error) {
	st, err := os.Stat(path)
	if err == nil && st.Size() > trust.MaxRequest {
		err = fmt.Errorf("%s is too large for a signing request", path)
	}
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	req, err := trust.DecodeRequest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; have the publisher make it again", path, err)
	}
	return req, nil
}

func writeRequest(path string, req *trust.Request) error {
	raw, err := req.Encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, raw, 0o644)
}

// mergeRequests reads the copies of a request that came back.
func mergeRequests(paths []string) ([]byte, error) {
	var all *trust.Request
	for _, path := range paths {
		req, err := readRequest(path)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = req
		} else if err := all.Merge(req); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return all.Encode()
}

func (a *app) keysRotateCommand() *cobra.Command {
	var c trust.Change
	var name, request string
	var stay bool
	cmd := &cobra.Command{
		Use:   "rotate ROLE...",
		Short: "Replace keys that are lost, stolen or old",
		Long: `Replace the keys of some roles: root, targets, release, snapshot, timestamp. Stop the node of the home directory
first; it has the new keys when it is started again. What the holders of other keys have to sign goes to a request.

After a theft of the keys in the home directory: swarmnode keys rotate snapshot timestamp release --name NAME`,
		Example: `  swarmnode keys rotate timestamp snapshot release --name debian
  swarmnode keys rotate root --replace ab12cd34 --out ./new --name debian   # one lost key`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || name == "" {
				return misuse("say which roles of which collection: swarmnode keys rotate ROLE... --name NAME")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.keyRing(name)
			if err != nil {
				return err
			}
			defer r.Close()
			here := map[string]bool{}
			for _, role := range r.Signer.Show() {
				here[role.Role] = role.Here
			}
			var changes []trust.Change
			for _, role := range args {
				one := c
				one.Role = role
				if one.Plan.Out == "" && !here[role] && !stay {
					return misuse("the keys of %s are elsewhere: say with --out where the new ones go, or --here to keep them in the home directory", role)
				}
				if here[role] && role != "root" && role != "targets" {
					one.Plan.Out = ""
				}
				changes = append(changes, one)
			}
			req, err := r.Signer.Rotate(time.Now(), changes...)
			if err != nil {
				return err
			}
			if req == nil {
				fmt.Fprintf(a.stdout, "The new keys of %s count. Start the node again and publish.\n", strings.Join(args, ", "))
				return nil
			}
			if err := writeRequest(request, req); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "The new keys of %s count when %s is signed: %s\nThen: swarmnode publish --signed %s --name %s DIR\n", strings.Join(args, ", "),
				request, req.Missing(), quote(request), quote(name))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "`NAME` of the collection")
	f.StringVar(&request, "request", "request.json", "`FILE` for what others have to sign")
	f.StringArrayVar(&c.Replace, "replace", nil, "`ID` of a key to replace, or its first digits; may be repeated (default: all)")
	f.IntVar(&c.Plan.Keys, "keys", 0, "`N` keys from now on (default: as many as now)")
	f.IntVar(&c.Plan.Threshold, "threshold", 0, "`K` of them must sign (default: as now)")
	f.StringVar(&c.Plan.Out, "out", "", "`DIRECTORY` for new keys that are carried away")
	f.BoolVar(&stay, "here", false, "keep the new keys in the home directory")
	return cmd
}

// writePrepared writes the request of publish --prepare and says what to do with it.
func (a *app) writePrepared(path string, raw []byte) error {
	req, err := trust.DecodeRequest(raw)
	if err != nil {
		return err
	}
	if err := writeRequest(path, req); err != nil {
		return err
	}
	if lines, err := req.Summary(); err == nil {
		fmt.Fprintf(a.stdout, "To be signed, in %s:\n  %s\n", path, strings.Join(lines, "\n  "))
	}
	fmt.Fprintf(a.stdout, "\n%s\nEach of them: swarmnode keys sign %s --keys DIRECTORY\nThen here, with the same DIR and name: swarmnode publish --signed %s\n",
		req.Missing(), quote(path), quote(path))
	return nil
}
