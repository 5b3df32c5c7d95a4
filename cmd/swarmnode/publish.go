package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
	"swarmnode/node/control"
	"swarmnode/node/publish"
)

const (
	// settleTimeout is how long a node that is just starting or stopping in the same home is waited for.
	settleTimeout = 5 * time.Second
	settlePause   = 100 * time.Millisecond
)

// publishOptions are the flags of publish.
type publishOptions struct {
	nodeFlags
	request       control.PublishRequest
	untilReplicas int
	prepare       string   // file for the signing request
	signed        []string // files of the signed one
}

func (a *app) publishCommand() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "Publish a directory, sign it and serve it",
		Long: `Publish the files of a directory as a collection, and serve them until Ctrl-C.

Nothing is copied: the files stay where they are, only their checksums are kept. The first
time, keys are made; they and the ID made from them are what mirrors trust, so keep a copy of
the directory "keys" in the home directory.

Run it again after a change: that is the next release, and only what is new moves. When it
runs already, a second ` + "`swarmnode publish`" + ` hands the work to the first and ends.`,
		Example: `  swarmnode publish ./release
  swarmnode publish ./release --name parsix --exclude '*.tmp'
  swarmnode publish ./release --until-replicas 2   # ends when two mirrors have all of it
  swarmnode publish ./release --prepare request.json    # for the holders of keys, see swarmnode keys
  swarmnode publish ./release --signed request.json     # when they have signed`,
		Annotations: map[string]string{serviceAnnotation: "yes"},
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return misuse("say which directory to publish: swarmnode publish DIR")
			case 1:
				return nil
			}
			return misuse("one directory at a time: swarmnode publish %s, then the others in the same way (put quotes around a name with spaces)", quote(args[0]))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.publish(cmd.Context(), args[0], &o) },
	}
	f := cmd.Flags()
	o.add(cmd)
	f.StringVar(&o.request.Name, "name", "", "name of the collection (default: the directory's name)")
	f.BoolVar(&o.request.Move, "move", false, "the collection is published from this directory from now on, not from the one before")
	f.BoolVar(&o.request.SkipBad, "skip-bad", false, "leave out what cannot be published, such as files that cannot be read, and go on")
	f.BoolVar(&o.request.AllowEmpty, "allow-empty", false, "publish even if there is nothing in the directory")
	f.StringArrayVar(&o.request.Exclude, "exclude", nil, "leave out names or paths that match this `GLOB`; may be repeated")
	f.DurationVar(&o.request.TimestampFor, "timestamp-for", 0, "how `LONG` what is signed is valid without this machine confirming it, such as 336h (default a year; only the first time)")
	f.IntVar(&o.untilReplicas, "until-replicas", 0, "end when `N` mirrors have all of it: then this machine can be switched off")
	f.Uint64Var(&o.request.Above, "above", 0, "give the release a greater number than `N`: after a theft of keys, when mirrors believe a release N of the thief")
	f.StringVar(&o.prepare, "prepare", "", "do not publish yet: write to this `FILE` what the holders of keys that are elsewhere have to sign")
	f.StringArrayVar(&o.signed, "signed", nil, "publish what was signed: a copy of the `FILE` that --prepare wrote; may be repeated")
	return cmd
}

func (a *app) publish(ctx context.Context, dir string, o *publishOptions) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	root, err := publish.OpenTree(dir)
	if err != nil {
		return err
	}
	root.Close()
	if within(dir, a.home) {
		return misuse("the home directory %s, with the secret keys in it, is in the directory to publish: give another one with --home", a.home)
	}
	if o.untilReplicas < 0 {
		return misuse("--until-replicas %d: say how many mirrors there must be", o.untilReplicas)
	}
	if err := checkAddrs(o.bootstrap); err != nil {
		return err
	}
	o.request.Dir, o.request.Prepare = dir, o.prepare != ""
	if o.request.Prepare && len(o.signed) > 0 {
		return misuse("first --prepare, then --signed, when the file is signed")
	}
	if len(o.signed) > 0 {
		if o.request.Signed, err = mergeRequests(o.signed); err != nil {
			return err
		}
	}
	cfg, err := o.config(a)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(settleTimeout)
	for {
		err = a.handOver(ctx, o)
		if !errors.Is(err, control.ErrNoNode) {
			return err
		}
		err = a.serve(ctx, cfg, func(ctx context.Context, n *node.Node) error { return a.publishHere(ctx, n, o) })
		if !errors.Is(err, node.ErrHomeBusy) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settlePause):
		}
	}
}

// within reports whether path is dir or in it.
func within(dir, path string) bool {
	resolve := func(p string) string {
		for rest := ""; ; {
			if r, err := filepath.EvalSymlinks(p); err == nil {
				return filepath.Join(r, rest)
			}
			if filepath.Dir(p) == p {
				return filepath.Join(p, rest)
			}
			rest = filepath.Join(filepath.Base(p), rest)
			p = filepath.Dir(p)
		}
	}
	rel, err := filepath.Rel(resolve(dir), resolve(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// handOver has the node that runs with this home publish. The error is control.ErrNoNode if none runs.
func (a *app) handOver(ctx context.Context, o *publishOptions) error {
	client := control.NewClient(a.home)
	if _, err := client.Status(ctx); err != nil {
		return err
	}
	if (len(o.listen)+len(o.bootstrap) > 0 || o.gatewayFlags != gatewayFlags{}) && !o.json {
		a.note("a node runs with this home directory and publishes this; --listen, --bootstrap and what is said of the gateway are not used")
	}
	p := a.newProgress(o.json)
	res, err := client.Publish(ctx, o.request, func(s control.PublishProgress) { p.update(publishAt(s)) })
	p.end()
	if err != nil {
		if errors.Is(err, control.ErrNoNode) { // it has just ended; do not begin anew behind the user's back
			return errors.New("the running node has just ended; run the same command again")
		}
		return err
	}
	if len(res.Request) > 0 {
		return a.writePrepared(o.prepare, res.Request)
	}
	if err := a.tellPublished(res, o.json); err != nil {
		return err
	}
	if o.untilReplicas == 0 {
		return nil
	}
	w := mirrorWatch{app: a, json: o.json, until: o.untilReplicas, id: res.ID}
	return watch(ctx, func() (bool, error) {
		s, err := client.Status(ctx)
		if err != nil {
			return false, err
		}
		return w.look(s)
	})
}

// publishHere publishes with the node of this process and serves it.
func (a *app) publishHere(ctx context.Context, n *node.Node, o *publishOptions) error {
	p := a.newProgress(o.json)
	res, err := n.Publish(ctx, o.request, func(s control.PublishProgress) { p.update(publishAt(s)) })
	p.end()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if len(res.Request) > 0 {
		return a.writePrepared(o.prepare, res.Request)
	}
	if err := a.tellPublished(res, o.json); err != nil {
		return err
	}
	if !o.json {
		fmt.Fprintf(a.stdout, "\nServing it until you press Ctrl-C.\n")
		a.tellGateway(n.Status().Gateway)
		a.tellDashboard(n.Status().Dashboard)
	}
	w := mirrorWatch{app: a, json: o.json, until: o.untilReplicas, id: res.ID}
	return watch(ctx, func() (bool, error) { return w.look(n.Status()) })
}

func publishAt(s control.PublishProgress) at {
	what := map[string]string{"scan": "looking for changes", "hash": "reading", "tree": "listing the files", "sign": "signing"}[s.Phase]
	if what == "" {
		what = s.Phase
	}
	p := at{what: what, done: s.Done}
	if s.FilesTotal > 0 {
		p.more = fmt.Sprintf("%d of %s", s.Files, count(s.FilesTotal, "path"))
	}
	return p
}

// publishedEvent is a finished publish for scripts.
type publishedEvent struct {
	Event string `json:"event"`
	control.PublishResult
	Join string `json:"join"`
	Get  string `json:"get"`
}

// tellPublished prints the release and the lines for others to paste.
func (a *app) tellPublished(res control.PublishResult, asJSON bool) error {
	addr := bestAddr(res.Addrs)
	join := "swarmnode join --bootstrap " + addr
	get := fmt.Sprintf("swarmnode get %s --bootstrap %s", res.ID, addr)
	if asJSON {
		for _, s := range res.Skipped {
			a.note("left out: " + s)
		}
		return printJSON(a.stdout, publishedEvent{"published", res, join, get})
	}
	out := a.stdout
	for _, s := range res.Skipped {
		fmt.Fprintf(out, "Left out: %s\n", s)
	}
	if res.Unchanged {
		fmt.Fprintf(out, "Nothing has changed: %s is still at release %d, %s, %s.\n", res.Name, res.Release, count(res.Files, "file"), size(res.Bytes))
	} else {
		fmt.Fprintf(out, "Published %s, release %d: %s, %s, of which %s are new, in %s.\n", res.Name, res.Release, count(res.Files, "file"),
			size(res.Bytes), size(res.NewBytes), seconds(res.Seconds))
	}
	fmt.Fprintf(out, "ID: %s\n", res.ID)
	if addr == "" {
		fmt.Fprintln(out, "This node has no address that others could use.")
		return nil
	}
	fmt.Fprintf(out, "\nTo mirror it, on another machine:\n  %s\nTo download it:\n  %s\n", join, get)
	if addrIP(addr).IsLoopback() {
		fmt.Fprintln(out, "This address is good on this machine only; --listen :4101 is good for others.")
	}
	return nil
}

// mirrorWatch tells when the number of complete mirrors of what a node publishes changes.
type mirrorWatch struct {
	app   *app
	json  bool
	id    content.ID // the collection that until is about
	until int        // 0: for ever
	seen  map[content.ID]control.Serving
}

// mirrorsEvent is a new number of mirrors for scripts.
type mirrorsEvent struct {
	Event   string     `json:"event"`
	ID      content.ID `json:"id"`
	Name    string     `json:"name"`
	Release uint64     `json:"release"`
	Mirrors int        `json:"mirrors"`
}

// look tells what is new; done when there are as many mirrors as are wanted.
func (w *mirrorWatch) look(s control.Status) (done bool, err error) {
	if w.seen == nil {
		w.seen = map[content.ID]control.Serving{}
	}
	for _, c := range s.Collections {
		if !c.Published {
			continue
		}
		was, known := w.seen[c.ID]
		if known && c.Release != was.Release || known && c.Mirrors != was.Mirrors || !known && c.Mirrors > 0 {
			if err := w.tell(c, known && c.Release != was.Release); err != nil {
				return false, err
			}
		}
		w.seen[c.ID] = c.Serving
		if c.ID == w.id && w.until > 0 && c.Mirrors >= w.until {
			if !w.json {
				fmt.Fprintf(w.app.stdout, "That is enough: this machine can be switched off.\n")
			}
			return true, nil
		}
	}
	return false, nil
}

func (w *mirrorWatch) tell(c control.Collection, newRelease bool) error {
	if w.json {
		return printJSON(w.app.stdout, mirrorsEvent{"mirrors", c.ID, c.Name, c.Release, c.Mirrors})
	}
	if newRelease {
		fmt.Fprintf(w.app.stdout, "%s is at release %d now.\n", c.Name, c.Release)
	}
	if c.Mirrors == 0 {
		fmt.Fprintf(w.app.stdout, "No mirror has all of release %d of %s yet.\n", c.Release, c.Name)
		return nil
	}
	verb := "have"
	if c.Mirrors == 1 {
		verb = "has"
	}
	fmt.Fprintf(w.app.stdout, "%s %s all of release %d of %s.\n", count(c.Mirrors, "mirror"), verb, c.Release, c.Name)
	return nil
}
