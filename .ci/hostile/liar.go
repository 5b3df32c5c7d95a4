package main

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
)

// serve says that it has all of a future release and answers in its own way. It prints its peer ID first.
func (a *attack) serve(ctx context.Context) error {
	h, err := enemy(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(holdings, func(s network.Stream) { a.claim(ctx, s) })
	h.SetStreamHandler(chunks, func(s network.Stream) { a.lie(ctx, s) })
	for _, p := range []struct {
		proto protocol.ID
		text  string
	}{{blocks, "\x01\xff\xff\xff\xff"}, {outline, "\x01\x00\x10\x00\x00"}, {pull, "\x00\xff\xff\xff\xff"}} {
		h.SetStreamHandler(p.proto, func(s network.Stream) {
			for ctx.Err() == nil {
				if _, err := s.Write([]byte(p.text)); err != nil {
					return
				}
			}
		})
	}
	fmt.Println(h.ID())
	for ctx.Err() == nil {
		if h.Network().Connectedness(a.to.ID) != network.Connected {
			h.Connect(ctx, a.to)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// claim sends holdings: everything, and with "flip" everything and nothing in turn, 100 times a second.
func (a *attack) claim(ctx context.Context, s network.Stream) {
	defer s.Reset()
	everything := make(content.Bitmap, len(a.tables)/8+1)
	for i := range a.tables {
		everything[i/8] |= 1 << (i % 8)
	}
	for i := 0; ctx.Err() == nil; i++ {
		h := gossip.Holdings{Reset: true, Release: 1, Segments: everything}
		if i%2 == 1 {
			h.Segments = nil
		}
		body, err := gossip.EncodeHoldings(h)
		if err != nil {
			return
		}
		if _, err := s.Write(append(binary.BigEndian.AppendUint32([]byte{1}, uint32(len(body))), body...)); err != nil {
			return
		}
		if a.how != "flip" {
			<-ctx.Done()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// lie answers a request for chunks.
func (a *attack) lie(ctx context.Context, s network.Stream) {
	defer s.Reset()
	raw := make([]byte, 256)
	n, err := s.Read(raw)
	if err != nil || n < 5 {
		return
	}
	var q struct {
		_                     struct{} `cbor:",toarray"`
		Collection            []byte
		Segment, First, Count uint32
	}
	t := (*content.Table)(nil)
	if content.Decode(raw[4:n], 200, &q) == nil {
		t = a.tables[q.Segment]
	}
	if t == nil {
		return
	}
	a.done.Add(1)
	write := func(b []byte) bool { _, err := s.Write(b); return err == nil && ctx.Err() == nil }
	head := func(size uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, size) }
	switch a.how {
	case "deny", "flip": // it has nothing after all
		for range q.Count {
			write([]byte{2, 0, 0, 0, 0})
		}
		s.CloseWrite()
		<-ctx.Done()
	case "garbage":
		write(bytes.Repeat([]byte{0x9f}, 1<<16))
		s.CloseWrite() // a reset would overtake it
		time.Sleep(time.Second)
	case "drip":
		for write(head(t.Chunk(q.First).Size)) {
			for write([]byte{0}) {
				time.Sleep(time.Second)
			}
		}
	default:
		for i := uint32(0); i < q.Count || a.how == "endless"; i++ {
			size := t.Chunk(q.First + i%q.Count).Size
			if !write(append(head(size), make([]byte, size)...)[:cut(a.how, size)]) {
				return
			}
			if a.how == "truncate" {
				return
			}
		}
		s.CloseWrite()
		time.Sleep(time.Second)
	}
}

func cut(how string, size uint32) uint32 {
	if how == "truncate" {
		return 5 + size/2
	}
	return 5 + size
}

// gossip sends 1,000 messages a second: garbage, other kinds, doubles, and member records of nodes that do not exist.
func (a *attack) gossip(ctx context.Context) error {
	return a.again(ctx, 2, func(ctx context.Context, h host.Host) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithFloodPublish(true),
			pubsub.WithPeerOutboundQueueSize(4096), pubsub.WithMessageIdFn(func(m *pb.Message) string { return m.GetTopic() + string(m.GetData()) }))
		if err != nil {
			return err
		}
		t, err := ps.Join("/swarmnode/" + a.id.String())
		if err != nil {
			return err
		}
		wrong, err := ps.Join("/swarmnode/" + content.NewID([]byte("another")).String())
		if err != nil {
			return err
		}
		for len(t.ListPeers()) == 0 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := byte(0); ctx.Err() == nil; i++ {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if h.Network().Connectedness(a.to.ID) != network.Connected {
				return errors.New("cut off")
			}
			msg, err := a.message(i)
			if err != nil {
				return err
			}
			t.Publish(ctx, msg)
			wrong.Publish(ctx, msg)
			a.done.Add(1)
		}
		return nil
	})
}

// message makes one that was not sent before. Most of them are valid, so that their sender is not cut off at once.
func (a *attack) message(i byte) ([]byte, error) {
	front := []byte{byte(rand.Uint32()), byte(rand.Uint32())}
	if i%250 == 249 {
		return append(front, byte(gossip.KindMember), 0xff, 0xfe), nil // a record that cannot be read
	}
	if i%3 == 0 {
		return append(front, 200, byte(rand.Uint32()), byte(rand.Uint32())), nil // of a later program
	}
	key, _, err := crypto.GenerateEd25519Key(cryptorand.Reader)
	if err != nil {
		return nil, err
	}
	m := gossip.Member{Collection: a.id, Release: 1 << 40, Complete: true, Issued: time.Now().Unix()}
	for k := range gossip.MaxAddrs {
		m.Addrs = append(m.Addrs, fmt.Sprintf("/ip4/192.0.2.%d/tcp/4101", k+1))
	}
	sealed, err := topic.SealMember(key, m)
	if err != nil {
		return nil, err
	}
	msg, err := gossip.EncodeMessage(gossip.KindMember, sealed)
	return append(front, msg...), err
}
