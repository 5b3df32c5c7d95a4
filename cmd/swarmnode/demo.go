package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content"
	"swarmnode/node"
	"swarmnode/node/control"
)

const (
	// demoTimeout bounds the whole demo: it takes some seconds, in an emulator or on a machine that is busy otherwise minutes, so something is
	// wrong after that.
	demoTimeout = 15 * time.Minute
	// demoHeard is how long the master is given to hear of complete mirrors.
	demoHeard = 5 * time.Second
	// demoLook is how often the demo looks whether something has happened.
	demoLook    = 20 * time.Millisecond
	demoMirrors = 3
	demoName    = "demo"
	demoISO     = "iso/demo-live.iso"
)

func (a *app) demoCommand() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See a whole swarm work on this machine",
		Long: `Run a master and four mirrors in this process, talking to each other on this machine only: publish a
tree, mirror it, publish a change, stop the master, let a late joiner get everything from the mirrors,
and download a file from a mirror as a browser or curl does. Each step says what it does. It takes some seconds and about 500 MiB of temporary
files, and cleans up.`,
		Example: `  swarmnode demo
  swarmnode demo --keep ./demo && diff -r ./demo/master ./demo/joiner`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.demo(cmd.Context(), keep)
			if err != nil && interrupted(cmd.Context()) {
				return errors.New("interrupted; the temporary files are removed")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "keep the trees of the master and of the late joiner in this new `DIRECTORY`, as master and joiner")
	return cmd
}

func (a *app) demo(ctx context.Context, keep string) (err error) {
	if keep != "" {
		if found, err := os.ReadDir(keep); err == nil && len(found) > 0 {
			return misuse("--keep %s: there is something in it already; name a new directory", quote(keep))
		}
	}
	temp, err := os.MkdirTemp("", "swarmnode-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	trees := keep
	if keep == "" {
		trees = temp
	}
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("the demo was not done after %s", demoTimeout))
	defer cancel()
	d := &demo{out: a.stdout, log: a.log(), homes: filepath.Join(temp, "homes"), tree: filepath.Join(trees, "master"),
		joiner: filepath.Join(trees, "joiner"), began: time.Now()}
	defer func() {
		if serr := d.stopAll(); err == nil {
			err = serr
		}
		if err == nil {
			fmt.Fprintf(a.stdout, "\nAll of it worked, in %s.\n", brief(time.Since(d.began)))
			if keep != "" {
				fmt.Fprintf(a.stdout, "Look yourself: diff -r %s %s\n", quote(d.tree), quote(d.joiner))
			}
		}
	}()
	return d.run(ctx)
}

// demo is a swarm in one process and the story that it plays.
type demo struct {
	out          io.Writer
	log          *slog.Logger
	homes        string
	tree, joiner string // the published directory, and what the late joiner makes of it
	began        time.Time
	steps        int

	master   *demoNode
	mirrors  []*demoNode
	late     *demoNode
	id       content.ID
	released control.PublishResult // the newest
}

// demoNode is a running node.
type demoNode struct {
	*node.Node
	name  string
	stop  context.CancelFunc
	ended chan error
}

// say tells one step.
func (d *demo) say(since time.Time, format string, args ...any) {
	d.steps++
	fmt.Fprintf(d.out, "%2d. %s [%s]\n", d.steps, fmt.Sprintf(format, args...), brief(time.Since(since)))
}

func (d *demo) run(ctx context.Context) error {
	fmt.Fprintf(d.out, "A master, %d mirrors and a late joiner, all in this process and on this machine only.\n\n", demoMirrors)
	for _, step := range []func(context.Context) error{d.makeTree, d.publishFirst, d.joinMirrors, d.publishSecond, d.stopMaster, d.joinLate, d.compare, d.download} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				err = errors.Join(context.Cause(ctx), err)
			}
			return fmt.Errorf("the demo failed at step %d: %w", d.steps+1, err)
		}
	}
	return nil
}

func (d *demo) makeTree(context.Context) error {
	t := time.Now()
	sum, err := makeDemoTree(d.tree)
	if err != nil {
		return err
	}
	d.say(t, "There is a tree to publish: %s, %s. Packages, an ISO image with some of them in it, odd names, a symlink, an empty directory.",
		count(sum.files, "file"), size(sum.bytes))
	return nil
}

func (d *demo) publishFirst(ctx context.Context) (err error) {
	t := time.Now()
	if d.master, err = d.start(ctx, "master"); err != nil {
		return err
	}
	if err := d.publish(ctx); err != nil {
		return err
	}
	d.say(t, "The master publishes it, signed, as release %d. The files stay where they are, nothing is copied.", d.released.Release)
	return nil
}

func (d *demo) publish(ctx context.Context) (err error) {
	d.released, err = d.master.Publish(ctx, control.PublishRequest{Dir: d.tree, Name: demoName}, func(control.PublishProgress) {})
	d.id = d.released.ID
	return err
}

func (d *demo) joinMirrors(ctx context.Context) error {
	t := time.Now()
	for i := range demoMirrors {
		m, err := d.start(ctx, fmt.Sprintf("mirror%d", i+1))
		if err != nil {
			return err
		}
		d.mirrors = append(d.mirrors, m)
		if _, err := m.Join(ctx, bestAddr(d.master.Addrs()), nil); err != nil {
			return err
		}
	}
	if err := d.complete(ctx, d.mirrors...); err != nil {
		return err
	}
	d.say(t, "%d mirrors join and have all of it. They passed it on to each other: the master sent %s, the mirrors got %s.",
		demoMirrors, size(d.master.Status().BytesOut), size(d.received()))
	t = time.Now()
	heard := d.waitHeard(ctx)
	if heard {
		d.say(t, "The master has heard of %d complete mirrors. From here on it could be switched off.", demoMirrors)
	}
	return ctx.Err()
}

func (d *demo) publishSecond(ctx context.Context) error {
	before := d.received()
	t := time.Now()
	replaced, err := changeDemoTree(d.tree)
	if err != nil {
		return err
	}
	if err := d.publish(ctx); err != nil {
		return err
	}
	d.say(t, "The master replaces %s, builds the ISO image anew and publishes release %d: %s in all, of which %s are new.",
		count(replaced, "package"), d.released.Release, size(d.released.Bytes), size(d.released.NewBytes))
	t = time.Now()
	if err := d.complete(ctx, d.mirrors...); err != nil {
		return err
	}
	each := (d.received() - before) / demoMirrors
	d.say(t, "The mirrors hear of it and have all of it. Each moved %s, %.0f %% of the release.", size(each), 100*float64(each)/float64(d.released.Bytes))
	return nil
}

func (d *demo) stopMaster(context.Context) error {
	t := time.Now()
	master := d.master
	d.master = nil
	if err := master.end(); err != nil {
		return err
	}
	d.say(t, "The master is stopped.")
	return nil
}

func (d *demo) joinLate(ctx context.Context) (err error) {
	t := time.Now()
	if d.late, err = d.start(ctx, "joiner"); err != nil {
		return err
	}
	if _, err := d.late.Join(ctx, bestAddr(d.mirrors[0].Addrs()), []content.ID{d.id}); err != nil {
		return err
	}
	if err := d.complete(ctx, d.late); err != nil {
		return err
	}
	d.say(t, "A late joiner knows the ID and the address of one mirror. It has all of release %d, from the mirrors.", d.released.Release)
	return nil
}

func (d *demo) compare(ctx context.Context) error {
	t := time.Now()
	c, err := node.OpenClient(ctx, node.ClientConfig{Home: filepath.Join(d.homes, "get"), Bootstrap: []string{bestAddr(d.late.Addrs())}, Log: d.log})
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Release(ctx, d.id)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.Head.Release != d.released.Release {
		return fmt.Errorf("the late joiner gives release %d, the newest is %d", r.Head.Release, d.released.Release)
	}
	res, err := r.Get(ctx, "", d.joiner, func(node.Progress) {})
	if err != nil {
		return err
	}
	d.say(t, "It is written to a plain directory: %s, %s, all of it checked against the master's signature.", count(res.Files, "file"), size(res.Bytes))
	t = time.Now()
	sum, err := compareTrees(ctx, d.tree, d.joiner)
	if err != nil {
		return err
	}
	d.say(t, "Compared with the master's directory, %s, %s: names, bytes, permissions, times and links are the same.", count(sum.files, "file"), size(sum.bytes))
	return nil
}

// download plays somebody who knows a URL and nothing else.
func (d *demo) download(ctx context.Context) error {
	t := time.Now()
	where := d.mirrors[len(d.mirrors)-1].Gateway() + demoName + "/" + demoISO
	to := filepath.Join(d.homes, "download.iso")
	n, err := httpDownload(ctx, where, to)
	if err != nil {
		return err
	}
	took := time.Since(t)
	if err := sameBytes(filepath.Join(d.tree, filepath.FromSlash(demoISO)), to); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	d.say(time.Now().Add(-took), "Everybody else needs only a URL: `curl -O %s` from a mirror, the master still off, gives %s, byte for byte the master's file.",
		where, size(n))
	return nil
}

// httpDownload writes what a URL gives to a new file, as curl does.
func httpDownload(ctx context.Context, from, to string) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", from, resp.Status)
	}
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, resp.Body)
	return n, errors.Join(err, f.Close())
}

// start runs a node with a home of its own on free ports of the loopback address.
func (d *demo) start(ctx context.Context, name string) (*demoNode, error) {
	n, err := node.Open(ctx, node.Config{Home: filepath.Join(d.homes, name), Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Web: node.Web{Gateway: &node.GatewayConfig{Listen: "127.0.0.1:0"}}, Log: d.log.With("node", name)})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	x := &demoNode{Node: n, name: name, stop: stop, ended: make(chan error, 1)}
	go func() { x.ended <- n.Run(running) }()
	return x, nil
}

// end stops the node and waits for it.
func (x *demoNode) end() error {
	x.stop()
	if err := <-x.ended; err != nil {
		return fmt.Errorf("%s: %w", x.name, err)
	}
	return nil
}

// stopAll stops every node that still runs, all at once.
func (d *demo) stopAll() error {
	all := d.mirrors
	for _, x := range []*demoNode{d.master, d.late} {
		if x != nil {
			all = append(all, x)
		}
	}
	for _, x := range all {
		x.stop()
	}
	var errs []error
	for _, x := range all {
		errs = append(errs, x.end())
	}
	return errors.Join(errs...)
}

// complete waits until nodes have all of the newest release.
func (d *demo) complete(ctx context.Context, nodes ...*demoNode) error {
	for _, x := range nodes {
		var last control.Collection
		done := func() bool {
			last = x.collection(d.id)
			return last.Complete && last.Release == d.released.Release
		}
		if err := until(ctx, x, done); err != nil {
			return fmt.Errorf("%s: release %d is not complete: it has %s of %s (%s): %w", x.name, d.released.Release, size(last.BytesHere), size(last.Bytes),
				strings.TrimSpace(last.Phase+" "+last.Trouble), err)
		}
	}
	return nil
}

// waitHeard waits until the master knows of the complete mirrors, but not for long.
func (d *demo) waitHeard(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, demoHeard)
	defer cancel()
	return until(ctx, d.master, func() bool { return d.master.collection(d.id).Mirrors >= demoMirrors }) == nil
}

// until waits for something to be done by a node.
func until(ctx context.Context, x *demoNode, done func() bool) error {
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-x.ended:
			x.ended <- err
			return fmt.Errorf("the node ended: %w", err)
		case <-tick.C:
		}
	}
	return nil
}

// received is what all mirrors together have got so far.
func (d *demo) received() (sum uint64) {
	for _, m := range d.mirrors {
		sum += m.collection(d.id).ReceivedBytes
	}
	return sum
}

func (x *demoNode) collection(id content.ID) control.Collection {
	for _, c := range x.Status().Collections {
		if c.ID == id {
			return c
		}
	}
	return control.Collection{}
}
