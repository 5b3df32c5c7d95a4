package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
)

func (a *app) lsCommand() *cobra.Command {
	var o readFlags
	var long bool
	cmd := &cobra.Command{
		Use:   "ls ID[/PATH] --bootstrap ADDRESS",
		Short: "List what is in a collection or in a directory of it",
		Example: `  swarmnode ls bafkrei… --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…
  swarmnode ls -l bafkrei…/pool/main`,
		Args: wantsTarget("ls", "to list"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRelease(cmd.Context(), args[0], &o, func(ctx context.Context, t target, r *node.Release) error {
				list, err := r.List(ctx, t.path)
				if err != nil {
					return err
				}
				return a.list(list, long, o.json)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with permissions, size and time")
	return cmd
}

// entryJSON is an entry for scripts.
type entryJSON struct {
	Path     string     `json:"path"`
	Kind     string     `json:"kind"` // file, directory, symlink
	Mode     string     `json:"mode"` // permissions, octal
	Size     uint64     `json:"size"`
	Modified *time.Time `json:"modified,omitempty"`
	Target   string     `json:"target,omitempty"`
	SHA256   string     `json:"sha256,omitempty"`
}

func (a *app) list(list []content.Entry, long, asJSON bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 1, ' ', tabwriter.AlignRight)
	for _, e := range list {
		var err error
		switch {
		case asJSON:
			err = printJSON(a.stdout, asEntryJSON(e))
		case long:
			modified := "-"
			if !e.IsDir() {
				modified = time.Unix(e.Mtime, 0).Format("2006-01-02 15:04:05")
			}
			_, err = fmt.Fprintf(w, "%s\t%d\t %s %s\n", fileMode(e), e.Size, modified, shown(e))
		default:
			_, err = fmt.Fprintln(a.stdout, shown(e))
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

func asEntryJSON(e content.Entry) entryJSON {
	j := entryJSON{Path: e.Path, Kind: "file", Mode: fmt.Sprintf("%04o", e.Perm()), Size: e.Size, Target: e.Target}
	switch {
	case e.IsDir():
		j.Kind = "directory"
	case e.IsLink():
		j.Kind = "symlink"
	default:
		j.SHA256 = e.SHA256.String()
	}
	if !e.IsDir() {
		t := time.Unix(e.Mtime, 0).UTC()
		j.Modified = &t
	}
	return j
}

// shown is the name of an entry: with a slash behind a directory, and where a symlink leads.
func shown(e content.Entry) string {
	name := path.Base(e.Path)
	switch {
	case e.IsDir():
		return name + "/"
	case e.IsLink():
		return name + " -> " + e.Target
	}
	return name
}

func fileMode(e content.Entry) string {
	m := fs.FileMode(e.Perm())
	switch {
	case e.IsDir():
		m |= fs.ModeDir
	case e.IsLink():
		m |= fs.ModeSymlink
	}
	return strings.ToLower(m.String()) // L of a symlink as ls writes it
}
