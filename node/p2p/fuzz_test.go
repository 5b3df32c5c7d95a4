package p2p

import (
	"bytes"
	"testing"

	"swarmnode/content"
)

func FuzzRequests(f *testing.F) {
	f.Add(frame(chunkRequest{Collection: testID[:], Segment: 1, First: 2, Count: 3}))
	f.Add(frame(blockRequest{Collection: testID[:], Digests: make([]byte, 64)}))
	f.Add(frame(holdingsRequest{Collection: testID[:]}))
	f.Add(frame(outlineRequest{Collection: testID[:], Manifest: testID[:], Room: 1000}))
	f.Add([]byte{0, 0, 0, 1, 0x80})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := readFrame(bytes.NewReader(b), maxRequest)
		if err != nil {
			return
		}
		if id, run, err := decodeChunkRequest(body); err == nil {
			again := content.Encode(chunkRequest{Collection: id[:], Segment: run.Segment, First: run.First, Count: run.Count})
			if !bytes.Equal(again, body) || checkRun(run) != nil {
				t.Errorf("chunk request %x is read as %+v", body, run)
			}
		}
		if id, ds, err := decodeBlockRequest(body); err == nil {
			q := blockRequest{Collection: id[:]}
			for _, d := range ds {
				q.Digests = append(q.Digests, d[:]...)
			}
			if !bytes.Equal(content.Encode(q), body) || len(ds) > MaxBlocksPerRequest {
				t.Errorf("block request %x is read as %d digests", body, len(ds))
			}
		}
		if id, d, room, err := decodeOutlineRequest(body); err == nil {
			again := content.Encode(outlineRequest{Collection: id[:], Manifest: d[:], Room: room})
			if !bytes.Equal(again, body) || room > MaxOutlineBytes {
				t.Errorf("outline request %x is read as %s, %d", body, d, room)
			}
		}
		if id, err := decodeHoldingsRequest(body); err == nil && !bytes.Equal(content.Encode(holdingsRequest{Collection: id[:]}), body) {
			t.Errorf("holdings request %x is read as %s", body, id)
		}
	})
}

func FuzzPart(f *testing.F) {
	f.Add([]byte(part(statusOK, 3, "abc")), uint32(10))
	f.Add([]byte(part(statusBusy, 500, "")), uint32(10))
	f.Add([]byte(part(statusOK, 1<<31, "")), uint32(10))
	f.Fuzz(func(t *testing.T, b []byte, limit uint32) {
		st, n, err := readPart(bytes.NewReader(b), limit)
		if err != nil {
			return
		}
		if st == statusOK && (n == 0 || n > limit) || st != statusOK && n > maxRetryMillis {
			t.Errorf("%x is read as status %d with %d, limit %d", b, st, n, limit)
		}
	})
}

func FuzzPeersFile(f *testing.F) {
	f.Add([]byte(`{"peers":[{"id":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","addrs":["/ip4/1.2.3.4/tcp/4101","x"],"seen":1}]}`))
	f.Add([]byte(`{"peers":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		known, err := parsePeers(b)
		if err != nil {
			return
		}
		k := newKeeper(nil, 1)
		k.remembered = known
		for id, r := range known {
			if len(r.Addrs) == 0 || len(r.Addrs) > maxRememberedAddrs || id.String() != r.ID {
				t.Errorf("%s: %+v", id, r)
			}
		}
		k.someRemembered(now0, isNobody)
	})
}

func FuzzAddr(f *testing.F) {
	f.Add("/ip4/1.2.3.4/tcp/4101/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	f.Add("/p2p-circuit")
	f.Add("[::1]:4101")
	f.Fuzz(func(t *testing.T, s string) {
		if info, err := parseAddr(s); err == nil && (info.ID == "" || len(info.Addrs) != 1) {
			t.Errorf("%q is read as %v", s, info)
		}
		if addrs, err := parseListen(s); err == nil && len(addrs) == 0 {
			t.Errorf("listen address %q is none", s)
		}
	})
}
