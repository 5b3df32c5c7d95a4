package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
	"swarmnode/node/control"
)

// joinOptions are the flags of join.
type joinOptions struct {
	nodeFlags
	collections []string
	disk        sizeFlag
	cacheOnly   bool
	export      string
}

func (a *app) joinCommand() *cobra.Command {
	var o joinOptions
	cmd := &cobra.Command{
		Use:   "join --bootstrap ADDRESS [--collection ID]",
		Short: "Become a mirror: keep a copy and pass it on to others",
		Long: `Become a mirror of what the node at ADDRESS publishes: fetch all of it, pass it on to others,
and follow each new release, until Ctrl-C.

With --cache-only nothing is fetched before somebody asks this node's gateway for it; it stays as long as
there is room. The node goes on like that until it joins the collection again without the flag.

With --export DIR what is mirrored lies in DIR as plain trees, DIR/NAME for each collection, which web servers,
rsync and NFS can serve. There is no other copy: whatever else is done to these files is undone. DIR must be
new, empty, or from an earlier run; it stays the place of these collections, also when the flag is not given
again. ` + "`swarmnode collections remove`" + ` leaves the trees where they are.

The address and ID are in what ` + "`swarmnode publish`" + ` prints. With the address of another mirror
instead of the publisher's, say with --collection which collection is meant. The next time,
` + "`swarmnode join`" + ` alone goes on with the same collections; other flags, such as --disk and --gateway,
are said each time. Where there are none yet it waits for ` + "`swarmnode collections add`" + `.`,
		Example: `  swarmnode join --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…
  swarmnode join --bootstrap /ip4/198.51.100.2/tcp/4101/p2p/12D3KooW… --collection bafkrei… --disk 500GB
  swarmnode join --bootstrap /ip4/203.0.113.7/tcp/4101/p2p/12D3KooW… --cache-only --disk 20GB
  swarmnode join --gateway :8080 --gateway-url http://mirror.example.org:8080/    # a mirror for everybody's browser, apt, curl …
  swarmnode join                                # again what was mirrored before, or what is added`,
		Annotations: map[string]string{serviceAnnotation: "yes"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if _, err := content.ParseID(args[0]); err == nil {
				return misuse("say which collection with --collection: swarmnode join --bootstrap ADDRESS --collection %s", args[0])
			}
			return misuse("give the address with --bootstrap: swarmnode join --bootstrap %s", quote(args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.join(cmd.Context(), &o) },
	}
	o.add(cmd)
	cmd.Flags().StringSliceVar(&o.collections, "collection", nil, "`ID` of a collection to mirror; may be repeated (default: all that the node at ADDRESS publishes)")
	cmd.Flags().Var(&o.disk, "disk", "how much disk to give, such as 500GB (default: the free space less 10 %; with --cache-only 10 GiB)")
	cmd.Flags().BoolVar(&o.cacheOnly, "cache-only", false, "keep only what is asked for, as far as --disk goes")
	cmd.Flags().StringVar(&o.export, "export", "", "keep what is mirrored as plain trees in `DIR`, for web servers and rsync")
	return cmd
}

func (a *app) join(ctx context.Context, o *joinOptions) error {
	var ids []content.ID
	for _, s := range o.collections {
		t, err := parseTarget(s)
		if err != nil {
			return err
		}
		if t.path != "" {
			return misuse("--collection %s: a mirror keeps a whole collection: --collection %s; for a part of it use `swarmnode get`", s, t.id)
		}
		ids = append(ids, t.id)
	}
	if err := checkAddrs(o.bootstrap); err != nil {
		return err
	}
	if o.cacheOnly && len(o.bootstrap)+len(ids) == 0 {
		return misuse("--cache-only says how a collection is joined: give its --bootstrap ADDRESS or --collection ID, too; `swarmnode join` alone goes on as before")
	}
	if o.cacheOnly && o.export != "" {
		return misuse("--export keeps all of a release as files, --cache-only only what is asked for: give one of them")
	}
	cfg, err := o.config(a)
	if err != nil {
		return err
	}
	cfg.Export = o.export
	cfg.Disk, cfg.CacheOnly = int64(o.disk), o.cacheOnly
	err = a.serve(ctx, cfg, func(ctx context.Context, n *node.Node) error {
		if err := a.follow(ctx, n, o.bootstrap, ids); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		return a.mirror(ctx, n, o.json)
	})
	if errors.Is(err, node.ErrHomeBusy) { // such as the service of this machine
		return fmt.Errorf("a node is already running with the home directory %s: tell it what to mirror with `swarmnode collections add ID --bootstrap ADDRESS`, "+
			"stop it, or use another directory with --home", a.home)
	}
	return err
}

// follow begins to mirror what is asked for. What was mirrored before goes on even if an address does not answer now.
func (a *app) follow(ctx context.Context, n *node.Node, addrs []string, ids []content.ID) error {
	before := mirrored(n.Status())
	if len(addrs) == 0 && len(ids) > 0 {
		_, err := n.Join(ctx, "", ids)
		return err
	}
	if len(addrs) == 0 && len(n.Status().Collections) == 0 {
		fmt.Fprintln(a.console, "swarmnode: nothing is mirrored yet with this home directory, and the node waits for a collection: say in another terminal "+
			"`swarmnode collections add ID --bootstrap ADDRESS`, or start again with --bootstrap, as `swarmnode publish` prints it at the publisher")
		return nil
	}
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer)
	for _, addr := range addrs {
		go func() {
			_, err := n.Join(ctx, addr, ids)
			answers <- answer{addr, err}
		}()
	}
	joined := 0
	var errs []error
	for range addrs {
		if r := <-answers; r.err != nil {
			errs = append(errs, r.err)
		} else {
			joined++
		}
	}
	if joined == 0 && !known(before, ids) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		if !errors.Is(err, node.ErrNothingPublished) && ctx.Err() == nil {
			a.note(fmt.Sprintf("%v; going on with what is known", err))
		}
	}
	return nil
}

// known reports whether all that is asked for, or anything if nothing is, was mirrored before.
func known(before []control.Collection, ids []content.ID) bool {
	have := map[content.ID]bool{}
	for _, c := range before {
		have[c.ID] = true
	}
	for _, id := range ids {
		if !have[id] {
			return false
		}
	}
	return len(before) > 0
}

// mirror tells how mirroring gets on, until ctx ends.
func (a *app) mirror(ctx context.Context, n *node.Node, asJSON bool) error {
	s := n.Status()
	w := mirroring{app: a, json: asJSON, progress: a.newProgress(asJSON), seen: map[content.ID]control.Collection{}}
	defer w.progress.end()
	if !asJSON {
		until := ", until you press Ctrl-C"
		if a.console.journal {
			until = ""
		}
		fmt.Fprintf(a.stdout, "This node is %s%s.\n", bestAddr(s.Addrs), until)
		a.tellGateway(s.Gateway)
		a.tellDashboard(s.Dashboard)
	}
	return watch(ctx, func() (bool, error) { return false, w.look(n.Status()) })
}

// mirroring tells what is new with the collections that a node mirrors.
type mirroring struct {
	app      *app
	json     bool
	progress *progress
	seen     map[content.ID]control.Collection
}

// joinEvent is what is new with a collection, for scripts.
type joinEvent struct {
	Event   string           `json:"event"` // following, complete, caching, trouble
	Addrs   []string         `json:"addrs"`
	Gateway *control.Gateway `json:"gateway,omitempty"`
	control.Collection
}

func (w *mirroring) look(s control.Status) error {
	var now at
	busy := 0
	for _, c := range mirrored(s) {
		was, known := w.seen[c.ID]
		w.seen[c.ID] = c
		if !known {
			if err := w.tell("following", s, c); err != nil {
				return err
			}
		}
		if c.Trouble != "" && c.Trouble != was.Trouble {
			if err := w.tell("trouble", s, c); err != nil {
				return err
			}
		}
		if c.Cache != nil && c.Release > was.Release {
			if err := w.tell("caching", s, c); err != nil {
				return err
			}
		}
		if c.Complete && (!was.Complete || c.Release != was.Release) {
			if err := w.tell("complete", s, c); err != nil {
				return err
			}
		}
		if !c.Complete && c.Cache == nil {
			busy++
			now.what = fmt.Sprintf("%s: %s", brieflyTitled(c), c.Phase)
			now.done += c.BytesHere
			now.total += c.Bytes
			now.more = "from " + count(c.Holders, "node")
		}
	}
	switch {
	case busy == 0:
		w.progress.end()
		return nil
	case busy > 1:
		now.what, now.more = "fetching "+count(busy, "collection"), ""
	}
	w.progress.update(now)
	return nil
}

func (w *mirroring) tell(event string, s control.Status, c control.Collection) error {
	if w.json {
		return printJSON(w.app.stdout, joinEvent{event, s.Addrs, s.Gateway, c})
	}
	w.progress.end() // the line stays, the bar comes again below it
	switch event {
	case "following":
		fmt.Fprintf(w.app.stdout, "Mirroring %s.\n", title(c))
	case "trouble":
		w.app.note(title(c) + ": " + c.Trouble)
	case "caching":
		fmt.Fprintf(w.app.stdout, "%s is served: release %d, %s, %s; what is asked for is fetched and kept within %s.\n", title(c), c.Release,
			count(c.Files, "file"), size(c.Bytes), size(c.Cache.Budget))
	case "complete":
		took := ""
		if c.AnnouncedToComplete > 0 {
			took = fmt.Sprintf(", %s after it was heard of", seconds(c.AnnouncedToComplete))
		}
		fmt.Fprintf(w.app.stdout, "%s is complete: release %d, %s, %s%s.\n", title(c), c.Release, count(c.Files, "file"), size(c.Bytes), took)
	}
	return nil
}

// title is how people know a collection: by name once that is known, and by ID.
func title(c control.Collection) string {
	if c.Name == "" {
		return c.ID.String()
	}
	return c.Name
}

// brieflyTitled is the same where there is little room.
func brieflyTitled(c control.Collection) string {
	const shown = 12
	if t := title(c); t != c.ID.String() {
		return t
	}
	return c.ID.String()[:shown] + "…"
}
