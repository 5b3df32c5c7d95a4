package node

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/node/gateway"
)

// gateways are those of other nodes: what this node's gateway can name to its clients. What their member records say is checked.
type gateways struct {
	mu       sync.Mutex // guards checkers
	checkers map[content.ID]*gateway.Checker
}

// mirrors lists the gateways of a collection that were found right.
func (g *gateways) mirrors(id content.ID) []gateway.Mirror {
	g.mu.Lock()
	k := g.checkers[id]
	g.mu.Unlock()
	if k == nil {
		return nil
	}
	return k.Mirrors()
}

// set makes k the checker of a collection; nil: it has none any more.
func (g *gateways) set(id content.ID, k *gateway.Checker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.checkers == nil {
		g.checkers = map[content.ID]*gateway.Checker{}
	}
	if g.checkers[id] = k; k == nil {
		delete(g.checkers, id)
	}
}

// checkGateways checks the gateways that the members of a collection have.
func (n *Node) checkGateways(ctx context.Context, c *collection) error {
	k := gateway.NewChecker(gateway.CheckConfig{
		Gateways:     func() []string { return n.gatewaysNamed(c) },
		Collection:   func() *gateway.Collection { return n.web.catalogue.find(c.id) },
		AllowPrivate: n.cfg.Gateway.AllowPrivate, Rand: newRand(), Now: n.cfg.Now, Log: n.log.With("collection", c.id),
	})
	n.web.others.set(c.id, k)
	defer n.web.others.set(c.id, nil)
	return k.Run(ctx)
}

// gatewaysNamed lists the URLs of gateways in member records, this node's own left out; those of nodes that are expected to be near come first.
func (n *Node) gatewaysNamed(c *collection) []string {
	type claim struct {
		url string
		rtt time.Duration
	}
	var claims []claim
	here := n.place.now()
	for _, m := range c.listener.Heard(n.cfg.Now(), 0).Members {
		if m.Gateway == "" || m.Gateway == n.web.url || m.Peer == n.host.ID() {
			continue
		}
		rtt := time.Duration(math.MaxInt64)
		if m.Coordinate.Known() {
			rtt = here.Expect(m.Coordinate)
		}
		claims = append(claims, claim{m.Gateway, rtt})
	}
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.url, b.url)) })
	urls := make([]string, len(claims))
	for i, x := range claims {
		urls[i] = x.url
	}
	return urls
}
