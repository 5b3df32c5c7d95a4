package p2p

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/gossip"
)

// smallRelease makes the metadata of a release of three segments, and lists it in the order of its outline.
func smallRelease(t *testing.T) (blocks content.Blocks, order []content.Digest) {
	t.Helper()
	blocks = content.Blocks{}
	put := func(b []byte) (content.Digest, error) { return blocks.Put(b), nil }
	var infos []content.SegmentInfo
	for i := range 3 {
		table := content.NewTable([]content.Chunk{{Digest: content.Sum([]byte{byte(i)}), Size: 1}})
		infos = append(infos, content.SegmentInfo{Table: blocks.Put(table.Encode()), Size: 1, Chunks: 1})
	}
	tree, totals, err := content.BuildTree(func(yield func(content.Entry, error) bool) {
		yield(content.Entry{Path: "a", Mode: content.ModeFile | 0o644, Size: 3, SHA256: content.Sum(nil), Runs: []content.Run{{Segment: 0, Count: 1}, {Segment: 1, Count: 1}, {Segment: 2, Count: 1}}}, nil)
	}, put)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := content.BuildDirectory(infos, put)
	if err != nil {
		t.Fatal(err)
	}
	m := content.Manifest{Collection: testID, Name: "small", Release: 1, Tree: tree, Directory: directory, Totals: totals, LiveBytes: 3, Chunking: []byte{1}}
	manifest := blocks.Put(m.Encode())
	_, pages, err := content.DecodeDirectory(blocks[directory])
	if err != nil {
		t.Fatal(err)
	}
	return blocks, []content.Digest{manifest, directory, tree, pages[0], infos[0].Table, infos[1].Table, infos[2].Table}
}

func TestOutline(t *testing.T) {
	blocks, order := smallRelease(t)
	a := newHost(t, Config{Timeouts: patient}, Handlers{Block: func(id content.ID, d content.Digest) ([]byte, bool) {
		b, ok := blocks[d]
		return b, ok && id == testID
	}})
	b := newHost(t, Config{Timeouts: patient}, Handlers{})
	connect(t, b, a)
	ask := func(room int) (got []content.Digest, size int) {
		err := b.Outline(t.Context(), a.ID(), testID, order[0], uint32(room), func(d content.Digest, data []byte) error {
			if content.Sum(data) != d {
				t.Errorf("block %s has another hash", d)
			}
			got, size = append(got, d), size+len(data)
			return nil
		})
		if err != nil {
			t.Errorf("room for %d bytes: %v", room, err)
		}
		return got, size
	}
	all, size := ask(MaxOutlineBytes)
	if !slices.Equal(all, order) {
		t.Errorf("got %d blocks, want %d in order", len(all), len(order))
	}
	if got, _ := ask(size - 1); !slices.Equal(got, order[:len(order)-1]) {
		t.Errorf("room for all but one byte: got %d blocks, want %d", len(got), len(order)-1)
	}
	if got, _ := ask(0); got != nil {
		t.Errorf("no room: got %d blocks", len(got))
	}
	delete(blocks, order[3]) // and what is below it is not known
	if got, _ := ask(MaxOutlineBytes); !slices.Equal(got, order[:3]) {
		t.Errorf("without the page: got %d blocks, want 3", len(got))
	}
	delete(blocks, order[0])
	if got, _ := ask(MaxOutlineBytes); got != nil {
		t.Errorf("without the manifest: got %d blocks", len(got))
	}
}

// TestHostileOutline: nothing is taken but blocks of the release, and no more of them than asked for.
func TestHostileOutline(t *testing.T) {
	blocks, order := smallRelease(t)
	manifest := string(blocks[order[0]])
	const room = 400
	if len(manifest) > room {
		t.Fatalf("the manifest has %d bytes", len(manifest))
	}
	first := part(statusOK, uint32(len(manifest)), manifest)
	b := newHost(t, Config{Timeouts: patient}, Handlers{})
	for name, answer := range map[string]string{
		"another block":   part(statusOK, 3, "abc"),
		"more than asked": first + part(statusOK, room, ""),
		"a stranger":      first + part(statusOK, 3, "abc"),
		"a status":        part(statusKeepAlive, 0, ""),
	} {
		bad := hostile(t, outlineProtocol, func(s network.Stream) { readFrame(s, maxRequest); io.WriteString(s, answer); io.Copy(io.Discard, s) })
		if err := b.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
			t.Fatal(err)
		}
		err := b.Outline(t.Context(), gossip.PeerID(bad.ID().String()), testID, order[0], room, func(d content.Digest, _ []byte) error {
			if d != order[0] {
				t.Errorf("%s: block %s is taken", name, d)
			}
			return nil
		})
		if !errors.Is(err, ErrBadAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProtocolNotSpoken: a protocol is proposed along with the request; that the peer does not speak it is an error, not a wait.
func TestProtocolNotSpoken(t *testing.T) {
	_, order := smallRelease(t)
	b := newHost(t, Config{Timeouts: patient}, Handlers{})
	bad := hostile(t, blocksProtocol, func(s network.Stream) { s.Reset() })
	if err := b.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
		t.Fatal(err)
	}
	err := b.Outline(t.Context(), gossip.PeerID(bad.ID().String()), testID, order[0], MaxOutlineBytes, nil)
	if err == nil || errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want that it is refused", err)
	}
	within(t, "nothing is held", func() bool { return idle(b) })
}
