package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/node/control"
	"swarmnode/node/trigger"
)

const (
	// firstRunAfter is how long after the start of a node the first run begins by itself. A publish that starts the node asks for one
	// before, and has the password of the origin.
	firstRunAfter = 3 * time.Second
	// behindAfter is how many intervals runs may fail before the operator has to worry.
	behindAfter = 3
	// usualInterval is taken for that where there is no interval.
	usualInterval = time.Hour
	// shownReasons is how many of the paths that cannot be published are named in the status. Chosen: one may be odd, three are a kind.
	shownReasons = 3
)

// triggers is what all collections with triggers have in common.
type triggers struct {
	first chan struct{} // closed when there is a collection with triggers
	once  *sync.Once    // for first

	mu    *sync.Mutex               // guards what follows
	urls  map[content.ID]string     // of origins, with the passwords, which are nowhere on disk
	hooks map[string]*trigger.Hooks // by the address as it was given
}

func newTriggers() triggers {
	return triggers{first: make(chan struct{}), once: &sync.Once{}, mu: &sync.Mutex{}, urls: map[content.ID]string{}, hooks: map[string]*trigger.Hooks{}}
}

// url is the URL of an origin as it was given since the start; "" if none was.
func (f *triggers) url(id content.ID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.urls[id]
}

func (f *triggers) keepURL(id content.ID, url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.urls[id] = url
}

func (f *triggers) close() error {
	f.mu.Lock()
	hooks := f.hooks
	f.hooks = map[string]*trigger.Hooks{}
	f.mu.Unlock()
	var errs []error
	for _, h := range hooks {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// once are the choices that hold until a run has succeeded.
type once struct {
	allowEmpty, allowShrink bool
	above                   uint64
	ask                     bool // others are asked whether they know of a newer release
}

// runs are the publishes of a collection that its triggers make.
type runs struct {
	runner *trigger.Runner[control.PublishResult]

	mu      sync.Mutex // guards what follows
	once    once
	watcher map[*func(control.PublishProgress)]bool // those who wait
	runs    control.OriginRuns
	change  control.LastChange
	leftOut control.LeftOut
	dated   time.Time               // control.OriginTimes.Dated
	at      control.PublishProgress // of the run under way
	hookURL string
	trouble error // why there are no webhooks
}

// openRuns gives a collection with triggers, or an origin, its runner. Nothing runs yet.
func (n *Node) openRuns(c *collection) {
	r := &c.record
	if r.Triggers == nil && r.From == nil {
		n.unhook(r.Name, "")
		return
	}
	f := &runs{watcher: map[*func(control.PublishProgress)]bool{}, once: once{ask: true}}
	c.master.runs = f
	cfg := trigger.Config[control.PublishResult]{Rand: newRand(), Log: n.log.With("name", r.Name),
		Do: func(ctx context.Context, _ trigger.Cause) (control.PublishResult, error) { return n.runOnce(ctx, c) }}
	if w := r.Triggers; w != nil {
		if cfg.Every = w.Every; w.Every > 0 || w.Watch || w.Webhook != "" {
			cfg.First = firstRunAfter
		}
	}
	f.runner = trigger.New(cfg)
	if err := n.hook(r.Name, r.Triggers, f); err != nil {
		f.trouble = err
		n.log.Error("webhooks are not taken: the error says why", "name", r.Name, "error", err)
	}
}

// startRuns lets them begin.
func (n *Node) startRuns(c *collection) {
	f := c.master.runs
	if f == nil {
		return
	}
	n.triggers.once.Do(func() { close(n.triggers.first) })
	c.tasks.run(c.tasks.ctx, "triggers", f.runner.Run, c.fail)
	w := c.remembered().Triggers
	if w == nil || !w.Watch {
		return
	}
	c.tasks.run(c.tasks.ctx, "watch", func(ctx context.Context) error {
		dir := c.remembered().directory()
		told := func(message string, err error) {
			n.log.Warn(message, "name", c.name(), "directory", dir, "error", err)
		}
		err := origin.Watch(ctx, dir, func() { f.runner.Trigger(trigger.Watch) }, func(err error) {
			told("not all of the directory is watched: some changes are found by --every alone", err)
		})
		if err != nil && ctx.Err() == nil {
			told("the directory is not watched any more: changes are found by --every alone", err)
		}
		return nil
	}, nil)
}

// hook has the webhooks of a collection taken where its record says, and nowhere else.
func (n *Node) hook(name string, w *control.Triggers, f *runs) error {
	if w == nil || w.Webhook == "" {
		n.unhook(name, "")
		return nil
	}
	n.unhook(name, w.Webhook)
	var secret []byte
	var err error
	if w.SecretFile != "" {
		if secret, err = trigger.ReadSecret(w.SecretFile); err != nil {
			return err
		}
	}
	h, err := n.hooksAt(w.Webhook)
	if err != nil {
		return err
	}
	h.Set(name, trigger.Hook{Secret: secret, Trigger: func() trigger.State {
		f.runner.Trigger(trigger.Webhook)
		return f.runner.State()
	}})
	f.hookURL = hookURL(h.Addr(), name)
	return nil
}

func hookURL(addr, name string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && net.ParseIP(host).IsUnspecified() {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr + "/" + name
}

// hooksAt gives what takes webhooks at an address.
func (n *Node) hooksAt(address string) (*trigger.Hooks, error) {
	f := &n.triggers
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.hooks[address]; h != nil {
		return h, nil
	}
	h, err := trigger.ListenHooks(address, n.cfg.Now, n.log)
	if err != nil {
		return nil, err
	}
	f.hooks[address] = h
	return h, nil
}

// unhook ends the webhooks of a collection at all addresses but one.
func (n *Node) unhook(name, but string) {
	f := &n.triggers
	f.mu.Lock()
	defer f.mu.Unlock()
	for address, h := range f.hooks {
		if address == but || h.Remove(name) > 0 {
			continue
		}
		delete(f.hooks, address)
		if err := h.Close(); err != nil {
			n.log.Debug("webhooks: not closed well", "address", address, "error", err)
		}
	}
}

// checkHook finds out whether the webhooks that a record asks for can be taken.
func (n *Node) checkHook(r record) error {
	w := r.Triggers
	if w == nil || w.Webhook == "" {
		return nil
	}
	if err := trigger.CheckAddress(w.Webhook, w.SecretFile != ""); err != nil {
		return fmt.Errorf("--webhook %w", err)
	}
	if w.SecretFile != "" {
		if _, err := trigger.ReadSecret(w.SecretFile); err != nil {
			return err
		}
	}
	_, err := n.hooksAt(w.Webhook)
	return err
}

// hangup has everything that has triggers published on SIGHUP. A node without leaves the signal alone.
func (n *Node) hangup(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.triggers.first:
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		for _, c := range n.all() {
			if c.master != nil && c.master.runs != nil {
				n.log.Info("looked for changes because of SIGHUP", "name", c.name())
				c.master.runs.runner.Trigger(trigger.Signal)
			}
		}
	}
}

// PublishNow has a collection, given by name or ID, published now, and waits for it.
func (n *Node) PublishNow(ctx context.Context, req control.NowRequest, progress func(control.PublishProgress)) (control.PublishResult, error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", req.Collection, err)
	}
	defer leave()
	c, r, err := n.named(req.Collection)
	switch {
	case err != nil:
		return control.PublishResult{}, err
	case c == nil:
		return control.PublishResult{}, fmt.Errorf("%s cannot be opened: `swarmnode status` says why", cmp.Or(r.Name, req.Collection))
	case c.master == nil:
		return control.PublishResult{}, fmt.Errorf("%s is mirrored here, not published: what is new comes from its publisher", c.name())
	case c.master.runs == nil:
		return control.PublishResult{}, fmt.Errorf("%s is not followed: it is published by `swarmnode publish %s`, and with --every or --watch it is from then on", r.Name, r.Source)
	}
	return n.publishByRun(ctx, c, once{allowEmpty: req.AllowEmpty, allowShrink: req.AllowShrink}, progress)
}

// publishByRun has the runner make a run, and waits for it.
func (n *Node) publishByRun(ctx context.Context, c *collection, o once, progress func(control.PublishProgress)) (control.PublishResult, error) {
	f := c.master.runs
	f.mu.Lock()
	f.once.allow(o)
	f.watcher[&progress] = true
	f.mu.Unlock()
	res, err := f.runner.Now(ctx)
	f.mu.Lock()
	delete(f.watcher, &progress)
	f.mu.Unlock()
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = fmt.Errorf("publish %s: %w", c.name(), errStopping)
	}
	return res, err
}

// allow adds what somebody allows for the next run.
func (o *once) allow(more once) {
	o.allowEmpty, o.allowShrink, o.ask = o.allowEmpty || more.allowEmpty, o.allowShrink || more.allowShrink, o.ask || more.ask
	o.above = max(o.above, more.above)
}

// runOnce is one run.
func (n *Node) runOnce(ctx context.Context, c *collection) (control.PublishResult, error) {
	f, r := c.master.runs, c.remembered()
	f.mu.Lock()
	o := f.once
	f.mu.Unlock()
	e := errand{above: o.above, ask: o.ask}
	e.AllowEmpty, e.AllowShrink = o.allowEmpty, o.allowShrink
	if r.Scan != nil {
		e.Exclude, e.SkipBad = r.Scan.Exclude, r.Scan.SkipBad
	}
	began := time.Now()
	res, err := n.makeRelease(ctx, c, e, f.progress)
	f.note(res, err, time.Since(began))
	return res, err
}

// progress tells all who wait.
func (f *runs) progress(p control.PublishProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = p
	for to := range f.watcher {
		(*to)(p)
	}
}

// note keeps what came of a run for the status.
func (f *runs) note(res control.PublishResult, err error, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs.LastSeconds, f.runs.LastRequests, f.at = took.Seconds(), 0, control.PublishProgress{}
	if err != nil {
		return
	}
	f.once = once{}
	f.leftOut = control.LeftOut{Paths: len(res.Skipped), Reasons: slices.Clone(res.Skipped[:min(len(res.Skipped), shownReasons)])}
	pulled := cmp.Or(res.Pulled, &control.Pulled{})
	f.dated = pulled.Dated
	f.runs.LastRequests = pulled.Requests
	f.runs.Requests += uint64(pulled.Requests)
	f.runs.Files += uint64(pulled.Files)
	f.runs.Bytes += pulled.Bytes
	if !res.Unchanged {
		f.runs.Changes++
		f.change = control.LastChange{Release: res.Release, At: time.Now(), Files: pulled.Files, Bytes: pulled.Bytes, Seconds: res.Seconds}
	}
}

// originStatus tells how a collection with triggers stands; nil for others.
func (n *Node) originStatus(c *collection, now time.Time) *control.Origin {
	f, r := c.master.runs, c.remembered()
	if f == nil {
		return nil
	}
	s := f.runner.State()
	x := &control.Origin{URL: r.Source, Running: s.Running, Cause: string(s.Cause)}
	every := usualInterval
	if w := r.Triggers; w != nil {
		x.Every, x.Watch = w.Every.Seconds(), w.Watch
		every = cmp.Or(w.Every, every)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	x.OriginTimes = control.OriginTimes{Begun: s.Begun, Last: s.Ended, Success: s.Success, Next: s.Next, Failing: s.Failing, Dated: f.dated}
	x.OriginRuns, x.Change, x.LeftOut, x.Webhook = f.runs, f.change, f.leftOut, f.hookURL
	x.Runs, x.Failures = s.Runs, s.Failures
	if at := f.at; s.Running {
		x.Progress = &at
	}
	if s.Err != nil {
		x.Error = s.Err.Error()
	} else if f.trouble != nil {
		x.Error = f.trouble.Error()
	}
	x.Behind = !s.Failing.IsZero() && now.Sub(s.Failing) > behindAfter*every
	return x
}
