package sim

import (
	"fmt"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

func releaseScenario() Scenario {
	return Scenario{
		Name: "release",
		Doc:  "a master announces one release and every node fetches all of it",
		Settings: []Setting{
			{"nodes", "20", "nodes beside the master"},
			{"size", "256", "size of the release, MiB"},
			{"segment", "64", "size of a segment, MiB"},
			{"chunk", "1024", "size of a chunk, KiB"},
			{"master", "20", "uplink of the master, Mbit/s"},
			{"up", "20", "uplink of a node, Mbit/s"},
			{"down", "20", "downlink of a node, Mbit/s"},
			{"slots", "0", "requests that a node serves at a time (0: as many as the uplink can use, as the real node does)"},
			{"inflight", "0", "most MiB that a node has asked for and not got (0: what its goodput suggests, as the real node does)"},
			{"seeding", "1", "the master sends nothing twice before everything once (0: it sends what it is asked for)"},
			{"spread", "0", "links are lognormal with this sigma, the settings are their medians"},
			{"hours", "24", "give up after so much simulated time"},
		},
		run: runRelease,
	}
}

func runRelease(set *settings, seed uint64) (Report, error) {
	const mib = 1 << 20
	nodes := int(set.number("nodes", 1, 100_000))
	bytes := uint64(set.number("size", 1, 1<<20)) * mib
	segment := uint64(set.number("segment", 1, 64)) * mib
	chunk := uint64(set.number("chunk", 4, 1024)) << 10
	master := set.number("master", 0.01, 1e6) * mbit
	up, down := set.number("up", 0.01, 1e6)*mbit, set.number("down", 0.01, 1e6)*mbit
	slots := int(set.number("slots", 0, 1000))
	inFlight := uint64(set.number("inflight", 0, 4096)) << 20
	seeding := set.number("seeding", 0, 1) > 0
	spread := set.number("spread", 0, 3)
	end := time.Duration(set.number("hours", 0, 10_000) * float64(time.Hour))
	if set.err != nil {
		return Report{}, set.err
	}
	if (segment+chunk-1)/chunk > content.MaxSegmentChunks {
		return Report{}, fmt.Errorf("a segment of %d chunks: at most %d", segment/chunk, content.MaxSegmentChunks)
	}
	w := newWorld(nodes+1, seed)
	ups, downs := []float64{master}, []float64{down}
	for i := 1; i <= nodes; i++ {
		f := lognormal(w.rng(2*(nodes+1)+i), spread)
		ups, downs = append(ups, up*f), append(downs, down*f)
	}
	s := newSwarm(w, swarmConfig{sizes: cut(bytes, segment, chunk), up: ups, down: downs, inFlight: inFlight,
		serving: policy.ServingConfig{Places: slots}})
	s.connect()
	raw, err := announcement{Release: 1, Version: 1}.encode()
	if err != nil {
		return Report{}, err
	}
	s.nodes[0].publish(raw, seeding)
	w.run(end, func() bool { return s.complete == nodes })

	rep := Report{Bytes: bytes, Bound: kumarRoss(float64(bytes), ups[0], ups[1:], downs[1:]), Events: w.happened}
	for _, n := range s.nodes {
		rep.Nodes = append(rep.Nodes, n.finish())
	}
	rep.Master, rep.Nodes = rep.Nodes[0], rep.Nodes[1:]
	return rep, nil
}

// cut divides a release into segments and chunks of even size; the last ones may be smaller.
func cut(bytes, segment, chunk uint64) [][]uint32 {
	var sizes [][]uint32
	for bytes > 0 {
		var seg []uint32
		for room := min(segment, bytes); room > 0; {
			size := min(chunk, room)
			seg = append(seg, uint32(size))
			room -= size
			bytes -= size
		}
		sizes = append(sizes, seg)
	}
	return sizes
}

// kumarRoss is the least time in seconds in which any scheme, with bytes as fine as water, can give all nodes the
// whole (Kumar and Ross, "Peer-assisted file distribution: the minimum distribution time", 2006).
func kumarRoss(bytes, master float64, ups, downs []float64) float64 {
	sum, least := master, slices.Min(downs)
	for _, u := range ups {
		sum += u
	}
	return max(bytes/master, bytes/least, float64(len(ups))*bytes/sum)
}

// announcement is the simulated signed bundle: one file with the head in it. Nobody forges here; that is for tests
// of gossip and trust.
type announcement struct {
	Release uint64
	Version int64
}

const announcementFile = "timestamp.json"

func (a announcement) encode() ([]byte, error) {
	return gossip.EncodeBundle(gossip.Bundle{Files: map[string][]byte{announcementFile: content.Encode(a)}})
}

// verifier stands in for trust.Repository.
type verifier struct{ version int64 }

// Verify implements gossip.Verifier.
func (v *verifier) Verify(now time.Time, b gossip.Bundle) (gossip.Head, error) {
	var a announcement
	if err := content.Decode(b.Files[announcementFile], gossip.MaxBundle, &a); err != nil {
		return gossip.Head{}, fmt.Errorf("%w: %w", gossip.ErrMalformed, err)
	}
	if a.Version <= v.version {
		return gossip.Head{}, gossip.ErrOld
	}
	v.version = a.Version
	return gossip.Head{Collection: content.NewID([]byte("sim")), Name: "sim", Release: a.Release,
		Manifest: content.Sum(b.Files[announcementFile]), Signed: now, Expires: now.Add(365 * 24 * time.Hour), TimestampVersion: a.Version}, nil
}
