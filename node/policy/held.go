package policy

import (
	"swarmnode/content"
	"swarmnode/gossip"
)

// Held is which part of a release a peer has, between 0 and 1, by what it told: of the segments that it named the live bytes, of those
// that it has in parts as many as it named chunks. infos are the segments of the release. It is 0 for who is not connected.
func (t *Transfer) Held(peer gossip.PeerID, infos []content.SegmentInfo) float64 {
	s := t.sources[peer]
	if s == nil {
		return 0
	}
	var here, all float64
	for n, info := range infos {
		if info.Retired() || info.Chunks == 0 {
			continue
		}
		live := float64(int(info.Chunks) - info.Dead.Count())
		each := float64(info.Size) / float64(info.Chunks) // chunks differ; a percentage for people bears that
		all += live * each
		if seg := uint32(n); s.whole(seg) {
			here += live * each
		} else if row := t.parts[seg].row(s); row != nil {
			named := row.Clone()
			named.AndNot(info.Dead)
			here += min(float64(named.Count()), live) * each
		}
	}
	if all == 0 {
		return 0
	}
	return here / all
}
