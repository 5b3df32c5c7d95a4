package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The library asks a peer whether it reaches an address (AutoNAT version 2) once in two minutes and believes the second answer, and
// neither can be set: with one peer to ask, a port that the router passes on was known as such after 160 s. What is here asks the
// same question of the same peers as soon as there is an address of which the library knows nothing. One answer is enough, for it has
// to be proved: by a number that was told to nobody else and arrives over a new connection to that address.

const (
	// askPause is the time between two questions to one peer, which answers 12 a minute.
	askPause = 5 * time.Second
	// askTimeout bounds one question: a peer dials for 10 s and has 15 s for it all.
	askTimeout = 15 * time.Second
	// proofWait is how long the number may take after the answer; they are on two connections.
	proofWait = 5 * time.Second
	// maxDialBack and maxAnswer are the longest messages: they have an address or a number in them.
	maxDialBack, maxAnswer = 1 << 10, 8 << 10
)

// errUnanswered says that a peer has not said whether an address can be reached.
var errUnanswered = errors.New("the peer did not try the address")

// dialBacks asks peers to connect to this node, and waits for the numbers with which they prove it.
type dialBacks struct {
	host  host.Host
	asked map[peer.ID]time.Time // of keepAsking alone

	mu      sync.Mutex // guards waiting
	waiting map[uint64]question
}

// question is one that has not been proved yet.
type question struct {
	asked time.Time
	proof chan ma.Multiaddr // where its number arrived
}

// newDialBacks takes the streams with the numbers. Those that are not for it go on to the library, which asks for itself.
func newDialBacks(h host.Host) (*dialBacks, error) {
	library, err := handlerOf(h.Mux(), autonatv2.DialBackProtocol)
	if err != nil {
		return nil, err
	}
	d := &dialBacks{host: h, asked: map[peer.ID]time.Time{}, waiting: map[uint64]question{}}
	h.SetStreamHandler(autonatv2.DialBackProtocol, func(s network.Stream) {
		if err := s.SetDeadline(time.Now().Add(proofWait)); err != nil {
			s.Reset()
			return
		}
		n, raw, err := readNumber(s)
		switch {
		case err != nil:
			s.Reset()
		case d.arrived(n, s.Conn()):
			_ = pbio.NewDelimitedWriter(s).WriteMsg(&pb.DialBackResponse{}) // who dialed waits for it, and no longer if it is lost
			s.Close()
		default:
			if err := library(autonatv2.DialBackProtocol, &unread{s, io.MultiReader(bytes.NewReader(raw), s)}); err != nil {
				s.Reset()
			}
		}
	})
	return d, nil
}

// handlerOf gives the handler of a protocol, as the one who opens a stream gets it.
func handlerOf(mux protocol.Switch, id protocol.ID) (protocol.HandlerFunc, error) {
	var hello []byte
	for _, line := range []string{"/multistream/1.0.0", string(id)} {
		hello = append(binary.AppendUvarint(hello, uint64(len(line)+1)), line+"\n"...)
	}
	_, handler, err := mux.Negotiate(struct {
		io.Reader
		io.Writer
		io.Closer
	}{bytes.NewReader(hello), io.Discard, io.NopCloser(nil)})
	if err != nil {
		return nil, fmt.Errorf("find the handler of %s: %w", id, err)
	}
	return handler, nil
}

// unread is a stream with what was read of it put back.
type unread struct {
	network.Stream
	all io.Reader
}

// Read gives that first.
func (u *unread) Read(p []byte) (int, error) { return u.all.Read(p) }

// readNumber reads the number with which a peer proves that it has connected, and gives all that it took from r.
func readNumber(r io.Reader) (n uint64, raw []byte, err error) {
	var seen bytes.Buffer
	var msg pb.DialBack
	err = pbio.NewDelimitedReader(io.TeeReader(r, &seen), maxDialBack).ReadMsg(&msg)
	return msg.GetNonce(), seen.Bytes(), err
}

// arrived hands a number to who waits for it, if somebody does. What comes through a relay, over a connection that was there before or that
// this node has opened, or from where one comes already, proves nothing: the router lets that in, and a peer that lies has it.
func (d *dialBacks) arrived(n uint64, c network.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, ok := d.waiting[n]
	if !ok {
		return false
	}
	known := slices.ContainsFunc(d.host.Network().Conns(), func(b network.Conn) bool {
		return b.ID() != c.ID() && b.RemoteMultiaddr().Equal(c.RemoteMultiaddr())
	})
	if st := c.Stat(); !known && !st.Limited && st.Direction == network.DirInbound && !st.Opened.Before(q.asked) {
		delete(d.waiting, n)
		q.proof <- c.LocalMultiaddr()
	}
	return true
}

// ask has a peer connect to this node at an address. The error says that it is not known whether it could.
func (d *dialBacks) ask(ctx context.Context, p peer.ID, a ma.Multiaddr) (reached bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := d.host.NewStream(network.WithNoDial(ctx, "only who is there can be asked"), p, autonatv2.DialProtocol)
	if err != nil {
		return false, fmt.Errorf("ask %s to connect: %w", p, err)
	}
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	defer s.Close()
	n, proof := rand.Uint64(), make(chan ma.Multiaddr, 1)
	d.mu.Lock()
	d.waiting[n] = question{time.Now(), proof}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.waiting, n)
		d.mu.Unlock()
	}()
	request := &pb.DialRequest{Addrs: [][]byte{a.Bytes()}, Nonce: n}
	if err := pbio.NewDelimitedWriter(s).WriteMsg(&pb.Message{Msg: &pb.Message_DialRequest{DialRequest: request}}); err != nil {
		return false, fmt.Errorf("ask %s to connect: %w", p, err)
	}
	var answer pb.Message
	if err := pbio.NewDelimitedReader(s, maxAnswer).ReadMsg(&answer); err != nil {
		s.Reset()
		return false, fmt.Errorf("answer of %s: %w", p, err)
	}
	r := answer.GetDialResponse() // nil: it sees this node at another address and wants some kilobytes first; the library sends them
	switch {
	case r.GetStatus() != pb.DialResponse_OK:
		return false, fmt.Errorf("%s: %w (%s)", p, errUnanswered, r.GetStatus())
	case r.GetDialStatus() == pb.DialStatus_E_DIAL_ERROR:
		return false, nil
	}
	wait, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	select {
	case where := <-proof:
		if !sameTransport(where, a) {
			return false, fmt.Errorf("%s was asked to connect to %s and came to %s: %w", p, a, where, errUnanswered)
		}
		return true, nil
	case <-wait.Done():
		return false, fmt.Errorf("%s says that it has connected to %s, and has not: %w", p, a, errUnanswered)
	}
}

// sameTransport compares addresses that differ in what a router translates.
func sameTransport(a, b ma.Multiaddr) bool {
	ipA, _, udpA, okA := endpoint(a)
	ipB, _, udpB, okB := endpoint(b)
	return okA && okB && udpA == udpB && (ipA.To4() == nil) == (ipB.To4() == nil)
}

// whom gives a peer to ask about an address: one that sees this node from outside and was not asked just now.
func (d *dialBacks) whom(a ma.Multiaddr, now time.Time) (peer.ID, bool) {
	for p, t := range d.asked {
		if now.Sub(t) >= askPause {
			delete(d.asked, p)
		}
	}
	own, _, _, _ := endpoint(a)
	for _, c := range d.host.Network().Conns() {
		p, far := c.RemotePeer(), c.RemoteMultiaddr()
		if _, asked := d.asked[p]; asked || c.Stat().Limited || !manet.IsPublicAddr(far) {
			continue
		}
		if ip, _, _, ok := endpoint(far); !ok || ip.Equal(own) {
			continue
		}
		if got, err := d.host.Peerstore().SupportsProtocols(p, autonatv2.DialProtocol); err == nil && len(got) > 0 {
			return p, true
		}
	}
	return "", false
}

// keepAsking asks about each address that [reach.due] gives until ctx ends. wake says that there may be more, or another to ask; something
// hears that there is something to say.
func (h *Host) keepAsking(ctx context.Context, d *dialBacks, wake <-chan struct{}, something chan<- struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		a, ok, again := h.reach.due(now)
		var p peer.ID
		if ok {
			if p, ok = d.whom(a, now); !ok {
				again = now.Add(askPause)
			}
		}
		if !ok {
			timer.Reset(time.Until(again))
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-wake:
			}
			continue
		}
		d.asked[p] = now
		reached, err := d.ask(ctx, p, a)
		if ctx.Err() != nil {
			return
		}
		h.cfg.Log.Debug("a peer was asked to connect to this node", "peer", p, "address", a, "reached", reached, "error", err)
		if h.reach.answered(a, reached, err, time.Now()) {
			poke(something)
		}
	}
}
