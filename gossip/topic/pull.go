package topic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// PullProtocol is the request for one small file of a collection, or for the claims of a peer. One stream is one
// request: the request (CBOR) and end of stream; back come a status byte and, if it is 0, four bytes of length (big endian) and
// the bytes.
const PullProtocol protocol.ID = "/swarmnode/1/pull"

const (
	// MaxPull is the largest answer to a pull, in bytes. The largest TUF file here, SHA256SUMS of 10,000 paths, is near it.
	MaxPull = 1 << 20
	// MaxPullName is the longest name of a file that can be asked for, in bytes.
	MaxPullName = 255
	// pullTimeout bounds each side of a pull.
	pullTimeout = 10 * time.Second
	// maxRequest is the largest request, in bytes: the longest name and room for the rest.
	maxRequest = MaxPullName + 128
	// maxPullsPerPeer is how many pulls of one peer are answered at the same time.
	maxPullsPerPeer = 4
	// maxPullsInAll is how many pulls are answered at the same time; times MaxPull it is at most 32 MiB of memory.
	maxPullsInAll = 32
)

// What a pull can end with besides the bytes.
var (
	ErrNotFound = errors.New("the peer does not have it")
	ErrBusy     = errors.New("the peer is busy")
	ErrTooLarge = errors.New("larger than asked for")
	ErrRefused  = errors.New("the peer refuses the request")
)

// Answered reports whether the error of a pull is the peer's answer, which asking again would bring again: it does not have it,
// refuses it, or does not know the protocol.
func Answered(err error) bool {
	var (
		unknown multistream.ErrNotSupported[protocol.ID]
		reset   *network.StreamError // what is left of it where the reset overtook it
	)
	return errors.As(err, &unknown) || errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamProtocolNegotiationFailed ||
		errors.Is(err, ErrNotFound) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrRefused)
}

// errLonger is an ErrTooLarge that no honest node causes: it says so instead of sending.
var errLonger = fmt.Errorf("the answer is %w", ErrTooLarge)

// status is the first byte of an answer.
type status byte

const (
	statusOK status = iota
	statusNotFound
	statusBusy
	statusTooLarge
	statusRefused
)

func (s status) err() error {
	switch s {
	case statusOK:
		return nil
	case statusNotFound:
		return ErrNotFound
	case statusBusy:
		return ErrBusy
	case statusTooLarge:
		return ErrTooLarge
	}
	return ErrRefused // and statuses of later programs
}

// What can be asked for.
const (
	wantFile   = 1
	wantClaims = 2
)

// pullRequest is the encoded form of a request.
type pullRequest struct {
	_          struct{} `cbor:",toarray"`
	Want       uint64
	Collection content.Digest
	Name       string
	Max        uint64
}

// pullServer answers pulls.
type pullServer struct {
	host host.Host
	log  *slog.Logger

	answered, refused atomic.Uint64
	violated          atomic.Pointer[func(gossip.PeerID, bool)] // see OnBadPull

	mu     sync.Mutex // guards what follows
	files  func(id content.ID, name string) ([]byte, error)
	claims func() []gossip.Claim
	active map[peer.ID]int
	total  int
	closed bool
	wg     sync.WaitGroup // the streams being answered
}

func newPullServer(h host.Host, log *slog.Logger) *pullServer {
	p := &pullServer{host: h, log: log, active: map[peer.ID]int{}}
	h.SetStreamHandler(PullProtocol, p.handle)
	return p
}

// close refuses new requests and waits for those being answered, which the timeout bounds.
func (p *pullServer) close() {
	p.host.RemoveStreamHandler(PullProtocol)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}

// Serve says what pulls are answered with: files gives a file of a collection by name, with any error meaning that it
// is not here, and claims gives what this node publishes. Both are called by several goroutines at once and must be quick.
func (n *Net) Serve(files func(id content.ID, name string) ([]byte, error), claims func() []gossip.Claim) {
	n.pull.mu.Lock()
	defer n.pull.mu.Unlock()
	n.pull.files, n.pull.claims = files, claims
}

// OnBadPull has fn called, by several goroutines at once, for every peer that broke the pull protocol: in what it asked, or in what
// it answered.
func (n *Net) OnBadPull(fn func(from gossip.PeerID, answered bool)) { n.pull.violated.Store(&fn) }

func (p *pullServer) violation(from gossip.PeerID, answered bool) {
	if fn := p.violated.Load(); fn != nil {
		(*fn)(from, answered)
	}
}

func (p *pullServer) handle(s network.Stream) {
	deadline := time.Now().Add(pullTimeout)
	if s.SetDeadline(deadline) != nil {
		s.Reset()
		return
	}
	from := s.Conn().RemotePeer()
	if !p.enter(from) {
		p.refused.Add(1)
		if _, err := s.Write([]byte{byte(statusBusy)}); err != nil {
			s.Reset()
			return
		}
		s.Close()
		return
	}
	defer p.leave(from)
	if err := p.answer(s); err != nil {
		p.log.Debug("pull not answered", "peer", from, "error", err)
		s.ResetWithError(network.StreamProtocolViolation)
		return
	}
	s.Close()
}

func (p *pullServer) enter(from peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || guard.On(guard.PullsAtOnce) && (p.total >= maxPullsInAll || p.active[from] >= maxPullsPerPeer) {
		return false
	}
	p.total++
	p.active[from]++
	p.wg.Add(1)
	return true
}

func (p *pullServer) leave(from peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.active[from]--; p.active[from] == 0 {
		delete(p.active, from)
	}
	p.wg.Done()
}

// answer reads one request and writes the answer. The error is about the stream or garbage on it.
func (p *pullServer) answer(s network.Stream) error {
	raw, err := io.ReadAll(io.LimitReader(s, maxRequest+1))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	var req pullRequest
	if err := content.Decode(raw, maxRequest, &req); err != nil {
		p.refused.Add(1)
		p.violation(gossip.PeerID(s.Conn().RemotePeer().String()), false)
		return fmt.Errorf("read request: %w", err)
	}
	data, st := p.find(req)
	if st == statusOK && uint64(len(data)) > min(req.Max, MaxPull) {
		data, st = nil, statusTooLarge
	}
	if st == statusOK {
		if err := s.Scope().ReserveMemory(len(data), network.ReservationPriorityMedium); err != nil {
			data, st = nil, statusBusy
		} else {
			defer s.Scope().ReleaseMemory(len(data))
		}
	}
	if st != statusOK {
		p.refused.Add(1)
		_, err := s.Write([]byte{byte(st)})
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte{byte(statusOK)}, uint32(len(data)))
	if _, err := s.Write(head); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	if _, err := s.Write(data); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	p.answered.Add(1)
	return nil
}

func (p *pullServer) find(req pullRequest) ([]byte, status) {
	p.mu.Lock()
	files, claims := p.files, p.claims
	p.mu.Unlock()
	switch {
	case req.Want == wantFile && files != nil:
		if !isPullName(req.Name) {
			return nil, statusRefused
		}
		data, err := files(content.ID(req.Collection), req.Name)
		if err != nil {
			return nil, statusNotFound
		}
		return data, statusOK
	case req.Want == wantClaims && claims != nil:
		raw, err := gossip.EncodeClaims(claims())
		if err != nil {
			p.log.Warn("what this node publishes was not told to a peer: nothing to do, it asks again", "error", err)
			return nil, statusNotFound
		}
		return raw, statusOK
	case req.Want == wantFile, req.Want == wantClaims:
		return nil, statusNotFound
	}
	return nil, statusRefused
}

// isPullName admits names of TUF files and targets: letters, digits, dots, hyphens and underscores, not a dot first. So a
// name is never a path.
func isPullName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0) {
			return false
		}
	}
	return name != "" && len(name) <= MaxPullName
}

// Pull asks a peer for a file of a collection: a TUF file by name, or "bundle" for the newest announcement. At most max
// bytes are read, and never more than [MaxPull]. Nothing is verified here. The error wraps [ErrNotFound], [ErrBusy],
// [ErrTooLarge] or [ErrRefused] when the peer said so.
func (n *Net) Pull(ctx context.Context, from gossip.PeerID, id content.ID, name string, max int64) ([]byte, error) {
	if !isPullName(name) || max <= 0 {
		return nil, fmt.Errorf("pull %.80q of at most %d bytes: %w", name, max, ErrRefused)
	}
	req := pullRequest{Want: wantFile, Collection: content.Digest(id), Name: name, Max: uint64(min(max, MaxPull))}
	data, err := n.request(ctx, from, req)
	if err != nil {
		return nil, fmt.Errorf("pull %s of %s from %s: %w", name, id, from, err)
	}
	return data, nil
}

// Claims asks a peer which collections it publishes. Signatures are not checked here, but a claim that is bound to
// another peer is left out.
func (n *Net) Claims(ctx context.Context, from gossip.PeerID) ([]gossip.Claim, error) {
	raw, err := n.request(ctx, from, pullRequest{Want: wantClaims, Max: gossip.MaxClaimsSize})
	if err != nil {
		return nil, fmt.Errorf("ask %s what it publishes: %w", from, err)
	}
	claims, err := gossip.DecodeClaims(raw)
	if err != nil {
		n.pull.violation(from, true)
		return nil, fmt.Errorf("ask %s what it publishes: %w", from, err)
	}
	own := claims[:0]
	for _, c := range claims {
		if c.Peer == from || !guard.On(guard.ClaimPeer) {
			own = append(own, c)
		}
	}
	return own, nil
}

func (n *Net) request(ctx context.Context, from gossip.PeerID, req pullRequest) ([]byte, error) {
	p, err := peer.Decode(string(from))
	if err != nil {
		return nil, fmt.Errorf("peer ID %.80q: %w", from, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	// A relayed connection is good enough for a small file, and often the only one there is when a node joins.
	s, err := OpenStream(network.WithAllowLimitedConn(ctx, "pull"), n.host, p, PullProtocol)
	if err != nil {
		return nil, err
	}
	end := context.AfterFunc(ctx, func() { s.ResetWithError(network.StreamShutdown) })
	defer end()
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline) // not every transport has deadlines; AfterFunc ends the others
	}
	data, err := exchange(s, req)
	if err != nil {
		s.Reset()
		if errors.Is(err, errLonger) {
			n.pull.violation(from, true)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		return nil, err
	}
	s.Close()
	return data, nil
}

func exchange(s network.Stream, req pullRequest) ([]byte, error) {
	if _, err := s.Write(content.Encode(req)); err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	var head [5]byte
	if _, err := io.ReadFull(s, head[:1]); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if err := status(head[0]).err(); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s, head[1:]); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if guard.On(guard.PullLimit) && uint64(size) > req.Max {
		return nil, fmt.Errorf("%w: %d bytes, at most %d were asked for", errLonger, size, req.Max)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(s, data); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return data, nil
}
