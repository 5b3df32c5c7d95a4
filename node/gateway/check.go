package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// checkEvery is how often a gateway that was found right is checked again, give or take a fifth. A check costs up to sampleSize
	// where this node has the file, else up to a chunk; so 1,000 nodes that check one gateway cost it 18 kB/s.
	checkEvery = 15 * time.Minute
	// checkAgain is when one that was found wrong or away is checked again; it doubles up to checkRarely.
	checkAgain  = time.Minute
	checkRarely = time.Hour
	// checkSpread is the time over which checks are spread that all become due in one moment, at the start and when the release
	// changes, for each gateway that is known: then the others of the network check as well. leastSpread is for few of them.
	checkSpread = time.Second
	leastSpread = 5 * time.Second
	// checkLook is how often the list of gateways is looked at. It is also how late a check can begin.
	checkLook = 5 * time.Second
	// checkAtOnce is how many gateways are checked at the same time, so that up to 4 MiB are on their way.
	checkAtOnce = 4
	// checkTimeout bounds one check. A gateway that does not give 1 MiB in it is none to name to others: pacman asks for the
	// first byte within 10 s.
	checkTimeout = 20 * time.Second
	// maxChecked is how many gateways of a collection are known at a time: the nearest. No client takes more, and checking them
	// costs 64 MiB in checkEvery at the worst.
	maxChecked = 64
)

// CheckConfig is what a Checker works with. Gateways, Collection and Rand are required.
type CheckConfig struct {
	// Gateways lists the URLs of gateways that their nodes say they have, without this node's own, the nearest first as far as
	// that is known. They come from outside.
	Gateways func() []string
	// Collection gives the collection as it is served here; nil while it is not.
	Collection func() *Collection
	// AllowPrivate says that gateways at private and loopback addresses are asked. Otherwise a record could make this node
	// send requests into the network that it stands in.
	AllowPrivate bool
	Rand         *rand.Rand       // for the checker alone
	Now          func() time.Time // default time.Now
	Log          *slog.Logger     // default: discard
}

// Checker finds out which other gateways of a collection can be named to clients: those that are reachable, serve the same
// release, and gave a random chunk of a random file right. Nothing that they say of themselves is believed.
type Checker struct {
	cfg     CheckConfig
	probe   func(ctx context.Context, url string, c *Collection, rng *rand.Rand) (Mirror, error)
	results chan checkResult

	// What follows belongs to the goroutine of Run.
	known   map[string]*checked
	running int
	release uint64 // served here when it was last looked

	mu      sync.Mutex // guards mirrors
	mirrors []Mirror   // sorted; replaced, never changed
}

// checked is what is known of a gateway.
type checked struct {
	due      time.Time
	running  bool
	failures int    // since it was last found right
	mirror   Mirror // zero if it is not right now
}

type checkResult struct {
	url    string
	mirror Mirror
	err    error
}

// NewChecker makes a checker; Run makes it work.
func NewChecker(cfg CheckConfig) *Checker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := newProber(cfg.AllowPrivate, cfg.Now)
	return &Checker{cfg: cfg, probe: p.probe, results: make(chan checkResult), known: map[string]*checked{}}
}

// Mirrors lists the gateways that were found right when they were last checked, the nearest first. The slice is not changed any
// more, by anybody.
func (k *Checker) Mirrors() []Mirror {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mirrors
}

// Run checks until ctx ends.
func (k *Checker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(checkLook)
	defer tick.Stop()
	for {
		k.look(ctx, k.cfg.Now(), &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case r := <-k.results:
			k.finished(k.cfg.Now(), r)
		}
	}
}

// look learns which gateways there are and begins the checks that are due.
func (k *Checker) look(ctx context.Context, now time.Time, wg *sync.WaitGroup) {
	c := k.cfg.Collection()
	if c == nil || c.Served == nil {
		return
	}
	urls := k.learn(now)
	if release := c.Served.Manifest.Release; release != k.release {
		k.release = release
		for _, u := range urls {
			g := k.known[u]
			if soon := k.soon(now); g.mirror.Release != release && soon.Before(g.due) {
				g.due, g.failures = soon, 0
			}
		}
	}
	for _, u := range urls {
		g := k.known[u]
		if g.running || now.Before(g.due) || k.running >= checkAtOnce {
			continue
		}
		g.running = true
		k.running++
		rng := rand.New(rand.NewPCG(k.cfg.Rand.Uint64(), k.cfg.Rand.Uint64()))
		wg.Go(func() {
			cctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			m, err := k.probe(cctx, u, c, rng)
			select {
			case k.results <- checkResult{u, m, err}:
			case <-ctx.Done():
			}
		})
	}
}

// learn takes new gateways up, lets those go that nobody names any more, and gives the list.
func (k *Checker) learn(now time.Time) []string {
	var urls, unknown []string
	named := map[string]bool{}
	for _, raw := range k.cfg.Gateways() {
		u, err := cleanGateway(raw)
		if err != nil || named[u] {
			continue
		}
		if len(urls) == maxChecked {
			break
		}
		named[u] = true
		urls = append(urls, u)
		if k.known[u] == nil {
			k.known[u] = &checked{}
			unknown = append(unknown, u)
		}
	}
	for _, u := range unknown { // after all are counted
		k.known[u].due = k.soon(now)
	}
	gone := 0
	for u, g := range k.known {
		if !named[u] && !g.running {
			delete(k.known, u)
			gone++
		}
	}
	if gone > 0 {
		k.list()
	}
	return urls
}

// soon is a moment in the near future, spread by how many gateways are known.
func (k *Checker) soon(now time.Time) time.Time {
	return now.Add(time.Duration(k.cfg.Rand.Int64N(int64(max(leastSpread, checkSpread*time.Duration(len(k.known)))))))
}

// finished takes the result of a check. One failure is enough for a gateway not to be named.
func (k *Checker) finished(now time.Time, r checkResult) {
	k.running--
	g := k.known[r.url]
	g.running = false
	pause := checkEvery
	if r.err != nil {
		level := slog.LevelDebug
		if g.failures == 0 && errors.Is(r.err, errWrongBytes) {
			level = slog.LevelWarn
		}
		k.cfg.Log.Log(context.Background(), level, "a gateway is not named to clients", "url", r.url, "error", r.err)
		pause = min(checkRarely, checkAgain<<min(g.failures, 10)) // 2^10 minutes is more than checkRarely
		g.failures++
	} else {
		g.failures = 0
	}
	g.mirror = r.mirror // zero if it failed
	g.due = now.Add(pause*4/5 + time.Duration(k.cfg.Rand.Int64N(int64(pause)*2/5)))
	k.list()
}

// list makes the list of Mirrors anew.
func (k *Checker) list() {
	var list []Mirror
	for _, g := range k.known {
		if g.mirror.URL != "" {
			list = append(list, g.mirror)
		}
	}
	slices.SortFunc(list, func(a, b Mirror) int { return cmp.Or(cmp.Compare(a.RTT, b.RTT), cmp.Compare(a.URL, b.URL)) })
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mirrors = list
}
