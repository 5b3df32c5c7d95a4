// Package gossip is what nodes tell each other about a collection and what a node believes of it: signed release
// announcements ([Bundle], judged by an [Inbox]), member records ([Member], kept in [Members]), what a peer has
// ([Holdings], kept in a [View]) and who publishes what ([Claim]). Everything here is pure: bytes and the time come in,
// decisions go out. Signatures are checked by package trust, messages are carried by package topic.
package gossip

import (
	"errors"
	"time"

	"swarmnode/content"
)

// PeerID is a libp2p peer ID in its text form. In pure code it is only compared.
type PeerID string

// Head is what the newest verified timestamp of a collection says: the release that is current and until when.
type Head struct {
	Collection       content.ID
	Name             string         // the collection's name as its publisher calls it
	Release          uint64         // grows with every release; 0 means that nothing is known yet
	Manifest         content.Digest // manifest root of the release
	Signed           time.Time      // when the timestamp was signed: the content is "fresh as of" this moment
	Expires          time.Time      // when the timestamp expires
	Root             int64          // version of the root under which it was verified
	TimestampVersion int64          // version of the timestamp file; a heartbeat raises it, so does a release
	Bytes, Files     uint64         // totals of the release
}

// After reports whether h is from a later timestamp than the other head. Under a newer root a smaller timestamp version may
// follow on a larger one, as the publisher recovers from a thief's.
func (h Head) After(other Head) bool {
	return h.TimestampVersion > other.TimestampVersion || h.Root > other.Root && h.TimestampVersion < other.TimestampVersion
}

// Verdict is what to do with a message that a neighbour forwarded. The zero value does no harm to anybody.
type Verdict int

const (
	// Ignore drops the message and blames nobody.
	Ignore Verdict = iota
	// Accept forwards the message to the other neighbours.
	Accept
	// Reject drops the message and holds it against the neighbour that forwarded it.
	Reject
)

// String gives the verdict as a word for logs.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	}
	return "ignore"
}

// The errors that a [Verifier] tells apart; it may wrap them.
var (
	// ErrOld says that the bundle is not newer than what is known; equal is old, too.
	ErrOld = errors.New("not newer than what is known")
	// ErrExpired says that the bundle was good once.
	ErrExpired = errors.New("expired")
	// ErrUnknownRoot says that the bundle is signed by keys of a root that is not here yet: pull the roots.
	ErrUnknownRoot = errors.New("signed under a root that is not here")
	// ErrIncomplete says that a file which the bundle does not carry has to be pulled.
	ErrIncomplete = errors.New("a file of the bundle is not here")
	// ErrMalformed says that no honest node sends such bytes.
	ErrMalformed = errors.New("malformed")
	// ErrBadSignature says that a signature is wrong under a root that is here.
	ErrBadSignature = errors.New("wrong signature")
	// ErrRollback says that the publisher's keys signed something with a smaller version than they had signed before.
	ErrRollback = errors.New("goes back behind a version that was signed before")
	// ErrFork says that the publisher's keys signed two different things under one number.
	ErrFork = errors.New("two different releases under one number")
	// ErrLeap says that the publisher's keys signed a release number so far beyond the last one that numbers would run out:
	// a thief with the keys does that.
	ErrLeap = errors.New("the release number leaps too far")
)

// Verifier checks a bundle against everything verified so far and, if it is newer and valid, keeps it and tells what it
// says. The error is (or wraps) one of the sentinels of this package, or it is trouble of this node, such as a full disk.
// trust.Repository implements it; the simulator has its own.
type Verifier interface {
	Verify(now time.Time, b Bundle) (Head, error)
}

// Limits of the messages, checked before anything is parsed.
const (
	// MaxBundle is the largest encoded bundle, in bytes (DESIGN section 5).
	MaxBundle = 64 << 10
	// MaxBundleFiles is the most files in a bundle: four roles are usual.
	MaxBundleFiles = 8
	// MaxFileName is the longest name of a TUF file, in bytes.
	MaxFileName = 64
	// MaxMessage is the largest message on a topic, in bytes: a kind and the largest bundle.
	MaxMessage = 1 + MaxBundle
	// MaxSealedMember is the largest sealed member record, in bytes (DESIGN section 6).
	MaxSealedMember = 300
	// MaxMembers is the most members of a collection that a node remembers.
	MaxMembers = 10_000
)

// Bundle holds the small TUF files of a release by name: "timestamp.json", "3.snapshot.json", "1.targets.json",
// "3.release.json". A heartbeat carries the timestamp only.
type Bundle struct {
	Files map[string][]byte
}

// Kind says what a message on a collection's topic is.
type Kind byte

const (
	// KindAnnouncement is an encoded [Bundle].
	KindAnnouncement Kind = 1
	// KindMember is a sealed [Member].
	KindMember Kind = 2
)

// Member is a node's statement of itself for one collection, sealed with the node's libp2p key by package topic.
type Member struct {
	Collection content.ID
	Peer       PeerID
	Addrs      []string   // multiaddresses without the peer ID, the best first
	Disk       uint64     // bytes given to the collection
	Release    uint64     // the release that the node serves, 0 for none yet
	Complete   bool       // it has every live chunk of that release
	Gateway    string     // URL of its gateway, "" if it has no public one
	Issued     int64      // unix seconds
	Coordinate Coordinate // where it is; zero if unknown, and in the records of older nodes
}

// Holdings is what a peer says it has of a collection: all of it (Reset) or what changed since its last message.
type Holdings struct {
	Reset    bool             // forget what was said before
	Release  uint64           // the newest release whose segments the peer knows
	Below    uint32           // it has every live segment with a smaller number
	Segments content.Bitmap   // complete segments, by number
	Partial  []PartialSegment // segments of which it has some chunks
	Gone     []uint32         // segments that it has no longer
}

// PartialSegment is a segment of which a peer has some chunks.
type PartialSegment struct {
	Segment uint32
	Chunks  content.Bitmap
}

// Claim is the statement "this peer publishes this collection", signed by the collection's online role. It is bound to
// the peer ID, so it proves nothing for another peer.
type Claim struct {
	Collection content.ID
	Name       string
	Release    uint64
	Peer       PeerID
	Expires    int64  // unix seconds
	KeyID      string // TUF ID of the key
	Signature  []byte // over SignedBytes
}
