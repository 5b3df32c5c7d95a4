package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	originFlags
	request       control.PublishRequest
	untilReplicas int
	prepare       string   // file for the signing request
	signed        []string // files of the signed one
}

func (a *app) publishCommand() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish [DIR]",
		Short: "Publish a directory or a site elsewhere, sign it and serve it",
		Long: `Publish the files of a directory as a collection, and serve them until Ctrl-C.

Nothing is copied: the files stay where they are, only their checksums are kept. The first
time, keys are made; they and the ID made from them are what mirrors trust, so keep a copy of
the directory "keys" in the home directory.

Run it again after a change: that is the next release, and only what is new moves. When it
runs already, a second ` + "`swarmnode publish`" + ` hands the work to the first and ends.

With --from it is a site elsewhere that is published: its files are fetched, and looked at again
every hour, as often as --every says, or when a webhook, SIGHUP or ` + "`publish --now NAME`" + ` says so.
A consistent state of it is a release; what is fetched is kept in the home directory only.
Of a package repository, apt+https://HOST/debian?suite=NAME or rpm+https://HOST/DIRECTORY/, the
signed indexes are read instead. &component=, &arch= and &section= take a part of a suite; the
indexes stay as they are signed, and what they name beside that part is "404 Not Found". With
max-age=14d behind the ? of either, metadata that are older are refused.`,
		Example: `  swarmnode publish ./release
  swarmnode publish ./release --name parsix --exclude '*.tmp'
  swarmnode publish ./release --watch              # and again whenever something in it changes
  swarmnode publish --from https://example.org/pub/ --every 5m --name pub
  swarmnode publish --from 'apt+https://example.org/debian?suite=trixie&section=games' --keyring debian.gpg
  swarmnode publish --now pub                      # to the running node: look now
  swarmnode publish ./release --until-replicas 2   # ends when two mirrors have all of it
  swarmnode publish ./release --prepare request.json    # for the holders of keys, see swarmnode keys
  swarmnode publish ./release --signed request.json     # when they have signed`,
		Annotations: map[string]string{serviceAnnotation: "yes"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return nil
			}
			return misuse("one directory at a time: swarmnode publish %s, then the others in the same way (put quotes around a name with spaces)", quote(args[0]))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := strings.Join(args, "") // one or none
			if o.now != "" {
				if err := a.besideNow(cmd, o.now, dir); err != nil {
					return err
				}
				return a.publishNow(cmd.Context(), &o)
			}
			if err := o.settle(dir, cmd.Flags().Changed); err != nil {
				return err
			}
			return a.publish(cmd.Context(), dir, &o)
		},
	}
	o.nodeFlags.add(cmd)
	own := o.publishFlags()
	cmd.Flags().AddFlagSet(own)
	inSections(cmd, own, o.originFlags.add(cmd))
	return cmd
}

// publishFlags are those of publish alone.
func (o *publishOptions) publishFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("publish", pflag.ContinueOnError)
	f.StringVar(&o.request.Name, "name", "", "name of the collection (default: the last part of the directory's path or the URL)")
	f.BoolVar(&o.request.Move, "move", false, "the collection is published from this directory or URL from now on, not from the one before")
	f.BoolVar(&o.request.SkipBad, "skip-bad", false, "leave out what cannot be published, such as files that cannot be read, and go on")
	f.BoolVar(&o.request.AllowEmpty, "allow-empty", false, "publish even if there is nothing in the directory, this time")
	f.BoolVar(&o.request.AllowShrink, "allow-shrink", false, "publish even if more than half of the files of an origin are gone, this time")
	f.StringArrayVar(&o.request.Exclude, "exclude", nil, "leave out names or paths that match this `GLOB`; may be repeated")
	f.DurationVar(&o.request.TimestampFor, "timestamp-for", 0, "how `LONG` what is signed is valid without this machine confirming it, such as 336h (default a year; only the first time)")
	f.IntVar(&o.untilReplicas, "until-replicas", 0, "end when `N` mirrors have all of it: then this machine can be switched off")
	f.Uint64Var(&o.request.Above, "above", 0, "give the release a greater number than `N`: after a theft of keys, when mirrors believe a release N of the thief")
	f.StringVar(&o.prepare, "prepare", "", "do not publish yet: write to this `FILE` what the holders of keys that are elsewhere have to sign")
	f.StringArrayVar(&o.signed, "signed", nil, "publish what was signed: a copy of the `FILE` that --prepare wrote; may be repeated")
	return f
}

// settle checks what was said, as far as that can be done without looking.
func (o *publishOptions) settle(dir string, changed func(string) bool) error {
	if dir == "" && o.from.URL == "" {
		return misuse("say what to publish: swarmnode publish DIR, or swarmnode publish --from URL")
	}
	if err := errors.Join(checkGlobs("exclude", o.request.Exclude), checkGlobs("include", o.from.Include)); err != nil {
		return err
	}
	if o.from.URL != "" {
		if err := checkFrom(o.from.URL); err != nil {
			return err
		}
	}
	if err := o.originFlags.complete(dir, changed); err != nil {
		return err
	}
	if o.untilReplicas < 0 {
		return misuse("--until-replicas %d: say how many mirrors there must be", o.untilReplicas)
	}
	if o.request.Prepare = o.prepare != ""; o.request.Prepare && len(o.signed) > 0 {
		return misuse("first --prepare, then --signed, when the file is signed")
	}
	if o.from.URL != "" {
		o.request.From = &o.from
	}
	if o.Triggers != (control.Triggers{}) {
		o.request.Triggers = &o.Triggers
	}
	return checkAddrs(o.bootstrap)
}

// checkDir looks whether a directory can be published.
func (a *app) checkDir(dir string) error {
	root, err := publish.OpenTree(dir)
	if err != nil {
		return err
	}
	root.Close()
	if within(dir, a.home) {
		return misuse("the home directory %s, with the secret keys in it, is in the directory to publish: give another one with --home", a.home)
	}
	return nil
}

func (a *app) publish(ctx context.Context, dir string, o *publishOptions) (err error) {
	if dir != "" {
		if dir, err = filepath.Abs(dir); err == nil {
			err = a.checkDir(dir)
		}
		if err != nil {
			return err
		}
	}
	o.request.Dir = dir
	if len(o.signed) > 0 {
		if o.request.Signed, err = mergeRequests(o.signed); err != nil {
			return err
		}
	}
	cfg, err := o.config(a)
	if err != nil {
		return err
	}
	cfg.Disk = int64(o.disk)
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
	if (len(o.listen)+len(o.bootstrap) > 0 || o.disk > 0 || o.gatewayFlags != gatewayFlags{}) && !o.json {
		a.note("a node runs with this home directory and publishes this; --listen, --bootstrap, --disk and what is said of the gateway are not used: it has its own")
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
	if s, err := client.Status(ctx); err == nil && !o.json {
		a.tellTriggers(s, res)
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
		return a.publishLater(ctx, n, o, err)
	}
	if len(res.Request) > 0 {
		return a.writePrepared(o.prepare, res.Request)
	}
	if err := a.tellPublished(res, o.json); err != nil {
		return err
	}
	if !o.json {
		a.tellTriggers(n.Status(), res)
		if !a.console.journal {
			fmt.Fprintf(a.stdout, "\nServing it until you press Ctrl-C.\n")
		}
		a.tellGateway(n.Status().Gateway)
		a.tellDashboard(n.Status().Dashboard)
	}
	w := mirrorWatch{app: a, json: o.json, until: o.untilReplicas, id: res.ID}
	return watch(ctx, func() (bool, error) { return w.look(n.Status()) })
}

// publishLater goes on after a first run that failed, if there is a release to serve meanwhile and something to wait for.
func (a *app) publishLater(ctx context.Context, n *node.Node, o *publishOptions, failure error) error {
	name := o.request.Name
	if name == "" && o.request.From != nil {
		name = node.OriginName(o.from.URL)
	} else if name == "" {
		name = filepath.Base(o.request.Dir)
	}
	for _, c := range n.Status().Collections {
		if c.Name != name || c.Origin == nil || c.Release == 0 || c.Origin.Next.IsZero() {
			continue
		}
		a.note(fmt.Sprintf("%v; release %d is served meanwhile, and the next try is in %s", failure, c.Release, brief(time.Until(c.Origin.Next))))
		w := mirrorWatch{app: a, json: o.json, until: o.untilReplicas, id: c.ID}
		return watch(ctx, func() (bool, error) { return w.look(n.Status()) })
	}
	return failure
}

func publishAt(s control.PublishProgress) at {
	what := map[string]string{"scan": "looking for changes", "hash": "reading", "list": "listing the origin", "fetch": "fetching", "tree": "listing the files", "sign": "signing"}[s.Phase]
	if what == "" {
		what = s.Phase
	}
	p := at{what: what, done: s.Done, total: s.Total}
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
	a.tellOutcome(res)
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
		if known && c.Origin != nil && c.Origin.Running {
			continue // what a release took is known when the run has ended
		}
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

// fetched says what a release took to get from an origin.
func fetched(c control.Collection) string {
	if c.Origin == nil || c.Origin.Change.Release != c.Release || c.Origin.Change.Files == 0 {
		return ""
	}
	l := c.Origin.Change
	return fmt.Sprintf(": %s, %s fetched in %s", count(l.Files, "file"), size(l.Bytes), seconds(l.Seconds))
}

func (w *mirrorWatch) tell(c control.Collection, newRelease bool) error {
	if w.json {
		return printJSON(w.app.stdout, mirrorsEvent{"mirrors", c.ID, c.Name, c.Release, c.Mirrors})
	}
	if newRelease {
		fmt.Fprintf(w.app.stdout, "%s is at release %d now%s.\n", c.Name, c.Release, fetched(c))
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
