package gossip

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"swarmnode/content"
)

const (
	// MaxAddrs is the most addresses in a member record.
	MaxAddrs = 8
	// MaxAddr is the longest address in a member record, in bytes.
	MaxAddr = 128
	// MaxGateway is the longest gateway URL in a member record, in bytes.
	MaxGateway = 128
	// MaxMember is the largest encoded member record before it is sealed, in bytes.
	MaxMember = 1536

	// MemberTTL is how long a member record is believed: four times the interval at which it is sent.
	MemberTTL = 2 * time.Hour
	// MemberInterval is how often a node sends its member record when nothing changes.
	MemberInterval = 30 * time.Minute
	// MaxClockSkew is how far in the future a member record may have been issued.
	MaxClockSkew = 5 * time.Minute
)

// memberBlock is the encoded form of a member record without a coordinate. Addresses are bytes, because package topic
// packs them.
type memberBlock struct {
	_          struct{} `cbor:",toarray"`
	Version    uint64
	Collection content.Digest
	Peer       string
	Addrs      [][]byte
	Disk       uint64
	Release    uint64
	Complete   bool
	Gateway    string
	Issued     int64
}

// placedBlock is the encoded form of a member record with a coordinate: memberBlock with one part more.
type placedBlock struct {
	_          struct{} `cbor:",toarray"`
	Version    uint64
	Collection content.Digest
	Peer       string
	Addrs      [][]byte
	Disk       uint64
	Release    uint64
	Complete   bool
	Gateway    string
	Issued     int64
	Coordinate []int64
}

// placedHead is the first byte of a placedBlock: an array of ten (RFC 8949, section 3).
const placedHead = 4<<5 | 10

// EncodeMember gives the bytes of a member record.
func EncodeMember(m Member) ([]byte, error) {
	if err := checkMember(m); err != nil {
		return nil, fmt.Errorf("encode member: %w", err)
	}
	b := placedBlock{Version: content.Version, Collection: content.Digest(m.Collection), Peer: string(m.Peer),
		Disk: m.Disk, Release: m.Release, Complete: m.Complete, Gateway: m.Gateway, Issued: m.Issued}
	for _, a := range m.Addrs {
		b.Addrs = append(b.Addrs, []byte(a))
	}
	if m.Coordinate.Known() {
		b.Coordinate = m.Coordinate.numbers()
		return content.Encode(b), nil
	}
	return content.Encode(memberBlock{Version: b.Version, Collection: b.Collection, Peer: b.Peer, Addrs: b.Addrs, Disk: b.Disk,
		Release: b.Release, Complete: b.Complete, Gateway: b.Gateway, Issued: b.Issued}), nil
}

// DecodeMember reads what EncodeMember writes. The peer may be empty: in a sealed record the seal names it.
func DecodeMember(raw []byte) (Member, error) {
	b, place, err := decodeBlock(raw)
	if err != nil {
		return Member{}, fmt.Errorf("member: %w", err)
	}
	m := Member{Collection: content.ID(b.Collection), Peer: PeerID(b.Peer), Disk: b.Disk, Release: b.Release,
		Complete: b.Complete, Gateway: b.Gateway, Issued: b.Issued, Coordinate: place}
	for _, a := range b.Addrs {
		m.Addrs = append(m.Addrs, string(a))
	}
	if err := checkMember(m); err != nil {
		return Member{}, fmt.Errorf("member: %w", err)
	}
	return m, nil
}

// decodeBlock reads either form of a member record.
func decodeBlock(raw []byte) (b memberBlock, place Coordinate, err error) {
	if len(raw) == 0 || raw[0] != placedHead {
		err = decode(raw, MaxMember, &b, &b.Version)
		return b, place, err
	}
	var with placedBlock
	if err := decode(raw, MaxMember, &with, &with.Version); err != nil {
		return b, place, err
	}
	b = memberBlock{Version: with.Version, Collection: with.Collection, Peer: with.Peer, Addrs: with.Addrs, Disk: with.Disk,
		Release: with.Release, Complete: with.Complete, Gateway: with.Gateway, Issued: with.Issued}
	place, err = coordinateOf(with.Coordinate)
	return b, place, err
}

func checkMember(m Member) error {
	if m.Peer != "" && !isPeerID(m.Peer) {
		return fmt.Errorf("%w: peer ID %.80q", ErrMalformed, m.Peer)
	}
	if m.Collection.IsZero() || m.Issued < 0 {
		return fmt.Errorf("%w: no collection or no time", ErrMalformed)
	}
	if !m.Coordinate.Valid() {
		return fmt.Errorf("%w: coordinate %v", ErrMalformed, m.Coordinate)
	}
	if len(m.Gateway) > MaxGateway || !isPrintable(m.Gateway) {
		return fmt.Errorf("%w: gateway %.80q", ErrMalformed, m.Gateway)
	}
	if len(m.Addrs) > MaxAddrs {
		return fmt.Errorf("%w: %d addresses, at most %d are allowed", ErrMalformed, len(m.Addrs), MaxAddrs)
	}
	for _, a := range m.Addrs {
		if a == "" || len(a) > MaxAddr {
			return fmt.Errorf("%w: address of %d bytes", ErrMalformed, len(a))
		}
	}
	return nil
}

// Members is what a node knows of the members of one collection: the newest record of each of up to [MaxMembers]
// peers. Whoever puts a record in has checked its seal.
type Members struct {
	collection content.ID
	byPeer     map[PeerID]*memberItem
	oldest     memberHeap
	sorted     []Member // by peer; nil when it has to be made again
}

type memberItem struct {
	Member
	index int // in the heap
}

// NewMembers gives an empty view of a collection.
func NewMembers(collection content.ID) *Members {
	return &Members{collection: collection, byPeer: map[PeerID]*memberItem{}}
}

// Put takes a record in and reports whether it is news: of this collection, neither expired nor from the future, and
// issued later than what was known of the peer. When the view is full the record that was issued first goes.
func (ms *Members) Put(now time.Time, m Member) bool {
	if m.Collection != ms.collection || !isPeerID(m.Peer) || !believable(now, m) {
		return false
	}
	if old := ms.byPeer[m.Peer]; old != nil {
		if m.Issued <= old.Issued {
			return false
		}
		old.Member, ms.sorted = m, nil
		heap.Fix(&ms.oldest, old.index)
		return true
	}
	item := &memberItem{Member: m}
	if len(ms.oldest) >= MaxMembers {
		if before(item, ms.oldest[0]) {
			return false
		}
		ms.drop()
	}
	ms.byPeer[m.Peer], ms.sorted = item, nil
	heap.Push(&ms.oldest, item)
	return true
}

func believable(now time.Time, m Member) bool {
	return m.Issued > now.Add(-MemberTTL).Unix() && m.Issued <= now.Add(MaxClockSkew).Unix()
}

// Get gives the newest record of a peer.
func (ms *Members) Get(p PeerID) (Member, bool) {
	if item := ms.byPeer[p]; item != nil {
		return item.Member, true
	}
	return Member{}, false
}

// Len is how many members are known.
func (ms *Members) Len() int { return len(ms.oldest) }

// All gives the members sorted by peer ID. The slice is the caller's; the addresses in it are shared.
func (ms *Members) All() []Member {
	if ms.sorted == nil {
		for _, item := range ms.oldest {
			ms.sorted = append(ms.sorted, item.Member)
		}
		slices.SortFunc(ms.sorted, func(a, b Member) int { return cmp.Compare(a.Peer, b.Peer) })
	}
	return slices.Clone(ms.sorted)
}

// Expire forgets the records that are older than [MemberTTL] and gives their peers, the oldest record first.
func (ms *Members) Expire(now time.Time) []PeerID {
	var gone []PeerID
	for len(ms.oldest) > 0 && ms.oldest[0].Issued <= now.Add(-MemberTTL).Unix() {
		gone = append(gone, ms.oldest[0].Peer)
		ms.drop()
	}
	return gone
}

// drop forgets the oldest record.
func (ms *Members) drop() {
	item := heap.Pop(&ms.oldest).(*memberItem)
	delete(ms.byPeer, item.Peer)
	ms.sorted = nil
}

// before orders records by age, and by peer ID among those of one second, so that the order never depends on chance.
func before(a, b *memberItem) bool {
	return cmp.Or(cmp.Compare(a.Issued, b.Issued), cmp.Compare(a.Peer, b.Peer)) < 0
}

// memberHeap is a heap with the oldest record on top (container/heap).
type memberHeap []*memberItem

func (h memberHeap) Len() int           { return len(h) }
func (h memberHeap) Less(i, j int) bool { return before(h[i], h[j]) }

func (h memberHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *memberHeap) Push(x any) {
	item := x.(*memberItem)
	item.index = len(*h)
	*h = append(*h, item)
}

// Pop implements heap.Interface.
func (h *memberHeap) Pop() any {
	last := len(*h) - 1
	item := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return item
}
