package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/node/p2p"
)

const (
	// mendPeers is how many peers are asked for what is damaged here: if none of so many has it the origin is nearer.
	mendPeers = 8
	// mendTimeout is how long all of them may take for the chunks of a segment: 64 MiB at 10 Mbit/s.
	mendTimeout = time.Minute
)

// fromPeers has chunks of a collection from an origin that are damaged here fetched from mirrors; see publish.Config.Peers.
func (n *Node) fromPeers(c *collection) func(context.Context, uint32, *content.Table, content.Bitmap, func(uint32, []byte) error) error {
	return func(ctx context.Context, segment uint32, t *content.Table, want content.Bitmap, each func(uint32, []byte) error) error {
		asking, cancel := context.WithTimeout(ctx, mendTimeout)
		defer cancel()
		for _, peer := range n.holders(c) {
			for _, run := range runsWithin(segment, t, want, p2p.MaxRunBytes) {
				var own error // of this side
				err := n.host.Chunks(asking, peer, c.id, run, func(i uint32) uint32 { return t.Chunk(i).Size }, nil, func(ref content.Ref, data []byte) error {
					err := each(ref.Index, data)
					if err == nil {
						want.Clear(ref.Index)
					} else if !errors.Is(err, store.ErrWrongBytes) {
						own = err
					}
					return err
				})
				if own != nil {
					return own
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					n.log.Debug("a peer does not have all that is damaged here", "collection", c.id, "peer", peer, "error", err)
					break
				}
			}
		}
		return asking.Err() // one that hangs would do so for each segment
	}
}

// holders gives connected peers, those first that say they have the newest release.
func (n *Node) holders(c *collection) []gossip.PeerID {
	release := c.master.signer.Head().Release
	whole := map[gossip.PeerID]bool{}
	for _, m := range c.listener.Heard(n.cfg.Now(), 0).Members {
		whole[m.Peer] = m.Complete && m.Release == release
	}
	peers := n.connected()
	slices.SortStableFunc(peers, func(a, b gossip.PeerID) int {
		switch {
		case whole[a] == whole[b]:
			return 0
		case whole[a]:
			return -1
		}
		return 1
	})
	return peers[:min(len(peers), mendPeers)]
}

// runsWithin gives a set of chunks as runs of at most so many bytes each.
func runsWithin(segment uint32, t *content.Table, set content.Bitmap, most int) (runs []content.Run) {
	bytes := 0
	for i := range t.Len() {
		if !set.Has(i) {
			continue
		}
		size := int(t.Chunk(i).Size)
		if last := len(runs) - 1; last >= 0 && runs[last].First+runs[last].Count == i && bytes+size <= most {
			runs[last].Count++
			bytes += size
			continue
		}
		runs, bytes = append(runs, content.Run{Segment: segment, First: i, Count: 1}), size
	}
	return runs
}
