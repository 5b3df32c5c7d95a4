package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"time"

	"swarmnode/content"
	"swarmnode/node/control"
)

func main() {
	start := time.Now()
	bad := len(os.Args) > 2
	r := rand.New(rand.NewSource(1))
	var peers []control.Peer
	for i := range 60 {
		rtt := time.Duration(float64(time.Millisecond) * (0.3 + r.ExpFloat64()*60))
		if i%12 == 0 {
			rtt = 0
		}
		peers = append(peers, control.Peer{ID: fmt.Sprintf("12D3KooWHn8DfVqJ4Tz%08x", r.Uint32()), Addr: fmt.Sprintf("/ip4/203.0.113.%d/udp/4101/quic-v1", i), Transport: "quic", RTT: rtt, Inbound: i%3 == 0, Since: start.Add(-time.Hour * time.Duration(i)), BytesIn: int64(i) << 24, BytesOut: int64(i) << 27})
	}
	d, err := control.ListenDashboard(control.DashboardConfig{Listen: os.Args[1], Status: func() control.Status {
		now := time.Now()
		t := now.Sub(start).Seconds()
		deb := control.Collection{ID: content.NewID([]byte("x")), Name: "debian", Phase: "fetching",
			Serving:  control.Serving{Release: 712, Head: 713, FreshAsOf: now.Add(-7 * time.Minute), Expires: now.Add(300 * 24 * time.Hour), Files: 1_203_331, Mirrors: 23, Holders: 14},
			Storage:  control.Storage{Segments: 24000, SegmentsComplete: 23100, Bytes: 1600 << 30, BytesHere: int64(1500<<30 + t*1e8), BytesOnDisk: 1510 << 30, BytesBudget: 2000 << 30, Scrub: control.Scrub{Passes: 3}},
			Transfer: control.Transfer{ReceivedBytes: 123456789012, MetadataBytes: 12345678, WastedBytes: 4321, AnnouncedToComplete: 42.5}}
		iso := control.Collection{ID: content.NewID([]byte("y")), Name: "parsix-iso", Phase: "current", Serving: control.Serving{Release: 9, Head: 9, FreshAsOf: now.Add(-20 * time.Second), Expires: now.Add(300 * 24 * time.Hour), Files: 31, Mirrors: 1, Holders: 3},
			Storage: control.Storage{Complete: true, Segments: 120, SegmentsComplete: 120, Bytes: 8 << 30, BytesHere: 8 << 30, BytesOnDisk: 8 << 30}}
		s := control.Status{Verdict: "fine", Fine: true, ID: "12D3KooWHn8DfVqJ4TzPbTnKzDgKqjPBmhGkPPDQtDmyzVn8DfVq", Started: start.Add(-26 * time.Hour), Addrs: []string{"/ip4/192.0.2.7/tcp/4101/p2p/12D3KooWHn8DfVqJ4TzPbTnKzDgKqjPBmhGkPPDQtDmyzVn8DfVq", "/ip4/192.0.2.7/udp/4101/quic-v1/p2p/12D3KooWHn8DfVqJ4TzPbTnKzDgKqjPBmhGkPPDQtDmyzVn8DfVq"},
			Gateway: &control.Gateway{Local: "http://127.0.0.1:8080/", URL: "https://mirror.example.org/", Connections: 12, Answers: 123456, Failed: 3, Bytes: uint64(t*3e6 + 1e11)}, Peers: peers, BytesIn: int64(1e10 + t*2e6*(1+r.Float64()*0.1)), BytesOut: int64(1e11 + t*8e6), Collections: []control.Collection{deb, iso}}
		if bad {
			s.Fine, s.Verdict = false, "short of disk: debian: release 713 needs 120 GB, 40 GB are left; behind: fetching debian release 713 (93 %)"
			s.Collections[0].Trouble = "release 713 needs 120 GB, 40 GB are left"
			s.Collections[1].Lag, s.Collections[1].Scrub.Bad, s.Collections[1].Scrub.Repaired = 5, 2, 2
			s.Bootstrap = []control.Bootstrap{{Addr: "/ip4/192.0.2.1/tcp/4101/p2p/12D3KooWAbc", Error: "connection refused"}}
		}
		return s
	}})
	if err != nil {
		panic(err)
	}
	d.Run(context.Background())
}
