// Package control is the local face of a running node: a unix socket with HTTP and JSON on which the commands of the same user
// ask for its status and hand work over to it. It serves what a [Node] tells and does, and has the client for it.
package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// Node is what the socket stands for.
type Node interface {
	// Status tells how the node is.
	Status() Status
	// Publish makes a release and tells of its progress meanwhile; each call of progress replaces the one before.
	Publish(ctx context.Context, req PublishRequest, progress func(PublishProgress)) (PublishResult, error)
	// PublishNow has a collection that is followed published now, and waits for it.
	PublishNow(ctx context.Context, req NowRequest, progress func(PublishProgress)) (PublishResult, error)
	// Scrub has everything that is held read again, from now on, at so many bytes per second; 0 is the usual rate.
	Scrub(rate int64)
	// SetLimits changes limits by their names; they hold until the node ends.
	SetLimits(values map[string]string) error
	// Acknowledge ends the alarm of a collection, given by ID or name: the operator has looked into it.
	Acknowledge(collection string) error
	// Journal has the newest records of its log.
	Journal() *Journal
	Manager
}

// Status is how a node is. The JSON names are kept: scripts read them.
type Status struct {
	Verdict     string       `json:"verdict"` // one line: fine, or what to worry about
	Fine        bool         `json:"fine"`    // nothing to worry about
	ID          string       `json:"id"`      // peer ID
	Addrs       []string     `json:"addrs"`   // as others can bootstrap from
	Reach       Reach        `json:"reach"`
	Gateway     *Gateway     `json:"gateway,omitempty"`
	Dashboard   string       `json:"dashboard,omitempty"` // URL, as it is reached from this machine
	Home        string       `json:"home"`
	Started     time.Time    `json:"started"`
	Collections []Collection `json:"collections"`
	Peers       []Peer       `json:"peers"`
	Bootstrap   []Bootstrap  `json:"bootstrap,omitempty"`
	Offenders   []Offender   `json:"offenders,omitempty"` // the latest first
	Traffic
}

// Traffic is what has moved, and what may.
type Traffic struct {
	BytesIn  int64  `json:"bytes_in"`  // content and metadata received since the start
	BytesOut int64  `json:"bytes_out"` // and sent
	Limits   Limits `json:"limits"`
}

// Reach is how others get to a node.
type Reach struct {
	Way       string    `json:"way"` // public, relay, outbound (only over connections that the node opens itself) or unknown
	Since     time.Time `json:"since"`
	Confirmed []string  `json:"confirmed,omitempty"` // public addresses at which another node has reached this one
	Forwarded bool      `json:"forwarded,omitempty"` // one of these is a router's
	Relays    []string  `json:"relays,omitempty"`    // peers by which others meet this node
	Punched   uint64    `json:"punched"`             // direct connections opened through the routers of both sides
	Unpunched uint64    `json:"unpunched"`           // attempts at that which failed
	PunchTime float64   `json:"punch_seconds,omitempty"`
}

// Gateway is the HTTP server for ordinary clients.
type Gateway struct {
	Local string `json:"local"`         // as it is reached from this machine
	URL   string `json:"url,omitempty"` // as others are told
	// Loopback says that no other machine reaches it.
	Loopback bool `json:"loopback"`

	Connections int    `json:"connections"` // open now
	Answers     uint64 `json:"answers"`     // since the start
	Failed      uint64 `json:"failed"`      // of these, with a status of 500 or more, or broken off
	Refused     uint64 `json:"refused"`     // connections and requests over the limits
	Slow        uint64 `json:"slow"`        // clients dropped because they read too slowly
	Bytes       uint64 `json:"bytes"`       // sent, without headers
}

// Offender is a peer that did what no honest node does. The list is bounded.
type Offender struct {
	Peer        string    `json:"peer"`
	Addr        string    `json:"addr,omitempty"` // where it was connected, if that is known
	What        string    `json:"what"`           // it did last
	Count       int       `json:"count"`
	Last        time.Time `json:"last"`
	BannedUntil time.Time `json:"banned_until,omitzero"`
}

// Collection is how a node stands with one collection.
type Collection struct {
	ID        content.ID `json:"id"`
	Name      string     `json:"name"`
	Published bool       `json:"published"`        // this node is its master
	Source    string     `json:"source,omitempty"` // the published directory, or the URL of its origin without a password
	Origin    *Origin    `json:"origin,omitempty"` // of a collection that is published again by itself
	Phase     string     `json:"phase"`
	Trouble   string     `json:"trouble,omitempty"`
	Alarm     string     `json:"alarm,omitempty"`
	Cache     *Cache     `json:"cache,omitempty"`  // of a node that keeps only what is asked for
	Export    *Export    `json:"export,omitempty"` // where a mirror's content lies as a plain tree
	Paused    Paused     `json:"paused,omitzero"`

	Serving
	Storage
	Transfer
}

// Serving says what is served.
type Serving struct {
	Release   uint64    `json:"release"` // served; 0 for none yet
	Head      uint64    `json:"head"`    // newest known
	FreshAsOf time.Time `json:"fresh_as_of,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Lag       int       `json:"heartbeats_missed"`
	Files     uint64    `json:"files"`
	Mirrors   int       `json:"mirrors"`               // other nodes that said they have all of the newest release
	Holders   int       `json:"holders"`               // connected peers that serve the collection
	Nodes     []Holder  `json:"nodes,omitempty"`       // other nodes that said what they have, those that have least first; the list is bounded
	NodesAll  int       `json:"nodes_known,omitempty"` // how many there are
}

// Storage says how much of it is here.
type Storage struct {
	Complete         bool  `json:"complete"`
	Segments         int   `json:"segments"`
	SegmentsComplete int   `json:"segments_complete"`
	Bytes            int64 `json:"bytes"`
	BytesHere        int64 `json:"bytes_here"`
	BytesOnDisk      int64 `json:"bytes_on_disk"`
	BytesBudget      int64 `json:"bytes_budget,omitempty"` // 0: what the disk has
	Scrub            Scrub `json:"scrub"`
}

// Cache says how a node does that keeps only what is asked for.
type Cache struct {
	Bytes  int64  `json:"bytes"` // of content that is here
	Budget int64  `json:"budget"`
	Hits   uint64 `json:"hits"`   // chunks that were asked for since the start and were here
	Misses uint64 `json:"misses"` // and that were fetched
}

// Export is a plain tree that is the store of a mirrored collection.
type Export struct {
	Dir     string `json:"dir"`
	Release uint64 `json:"release"` // that it shows; 0 for none yet
	Bytes   int64  `json:"bytes"`   // of all files in it
}

// Scrub says what reading everything again has found.
type Scrub struct {
	Running  bool      `json:"running"`
	Passes   uint64    `json:"passes"` // finished, ever
	Finished time.Time `json:"finished,omitzero"`
	Checked  int64     `json:"checked"` // chunks, metadata blocks and trust files, by the pass under way or the last one
	Bytes    int64     `json:"bytes"`   // the same in bytes
	Bad      int64     `json:"bad"`     // found damaged since the start, also by others than the scrub
	Repaired int64     `json:"repaired"`
	Missing  int64     `json:"missing"` // needed and not repaired yet
}

// ScrubRequest asks for a scrub.
type ScrubRequest struct {
	Rate int64 `json:"rate,omitempty"` // bytes per second
}

// AcknowledgeRequest ends the alarm of a collection.
type AcknowledgeRequest struct {
	Collection string `json:"collection"` // ID or name
}

// Transfer says what moved.
type Transfer struct {
	ReceivedBytes       uint64  `json:"received_bytes"` // chunks and metadata blocks since the start
	MetadataBytes       uint64  `json:"metadata_bytes"` // of these, metadata
	WastedBytes         uint64  `json:"wasted_bytes"`
	BytesInFlight       uint64  `json:"bytes_in_flight"`
	Unobtainable        int     `json:"unobtainable_segments"`
	AnnouncedToComplete float64 `json:"announced_to_complete_seconds,omitempty"` // of the served release
}

// Peer is a connected peer.
type Peer struct {
	ID        string        `json:"id"`
	Addr      string        `json:"addr"`
	Transport string        `json:"transport"`
	RTT       time.Duration `json:"rtt_ns"`
	Inbound   bool          `json:"inbound"`
	Since     time.Time     `json:"since"`
	BytesIn   int64         `json:"bytes_in"`
	BytesOut  int64         `json:"bytes_out"`
}

// Bootstrap is a peer that the node was told to stay connected to.
type Bootstrap struct {
	Addr      string `json:"addr"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
}

// PublishRequest asks for a release of a directory.
type PublishRequest struct {
	Dir          string        `json:"dir"`            // absolute
	Name         string        `json:"name,omitempty"` // default: the directory's base name
	Move         bool          `json:"move,omitempty"` // the collection's directory is meant to be another one now
	SkipBad      bool          `json:"skip_bad,omitempty"`
	AllowEmpty   bool          `json:"allow_empty,omitempty"`
	Exclude      []string      `json:"exclude,omitempty"`
	TimestampFor time.Duration `json:"timestamp_for,omitempty"` // how long a signed timestamp is valid; 0: what was chosen before
	Prepare      bool          `json:"prepare,omitempty"`       // do not sign: give the signing request for the holders of keys
	Signed       []byte        `json:"signed,omitempty"`        // a signing request with signatures
	Above        uint64        `json:"above,omitempty"`         // the release gets a greater number than this
	From         *From         `json:"from,omitempty"`          // instead of Dir
	Triggers     *Triggers     `json:"triggers,omitempty"`      // nil: it is published when somebody says so, and only then
	AllowShrink  bool          `json:"allow_shrink,omitempty"`  // that an origin lost most of its files is meant
}

// PublishProgress is where a publish stands.
type PublishProgress struct {
	Phase      string `json:"phase"`
	Done       int64  `json:"done"`        // bytes read
	Total      int64  `json:"total"`       // 0 as long as unknown
	Files      int    `json:"files"`       // new or changed files done
	FilesTotal int    `json:"files_total"` // 0 as long as unknown
}

// PublishResult is a finished publish.
type PublishResult struct {
	ID         content.ID `json:"id"`
	Name       string     `json:"name"`
	Release    uint64     `json:"release"`
	Unchanged  bool       `json:"unchanged"` // nothing had changed, the release is the one before
	Files      uint64     `json:"files"`
	Bytes      uint64     `json:"bytes"`
	NewBytes   uint64     `json:"new_bytes"` // of chunks that the release before does not have
	DeltaBytes uint64     `json:"delta_bytes"`
	Segments   int        `json:"segments"` // new ones
	Skipped    []string   `json:"skipped,omitempty"`
	Pulled     *Pulled    `json:"pulled,omitempty"` // from an origin
	Addrs      []string   `json:"addrs"`
	Gateway    string     `json:"gateway,omitempty"` // where ordinary clients find the files from this machine
	Seconds    float64    `json:"seconds"`
	Request    []byte     `json:"request,omitempty"` // of Prepare: what the holders of keys are to sign
}

// Pulled says what a run asked of an origin.
type Pulled struct {
	Requests int       `json:"requests"` // that its listings took
	Files    int       `json:"files"`    // that were fetched
	Bytes    uint64    `json:"bytes"`
	Dated    time.Time `json:"metadata_made,omitzero"` // see OriginTimes
}

// SocketPath is where the socket of the node with this home is. Socket paths have a limit of about 100 bytes; for a
// longer home it is in a directory of this user's in the directory for temporary files.
func SocketPath(home string) string {
	const limit = 100
	if abs, err := filepath.Abs(home); err == nil {
		home = abs // however it is spelled
	}
	path := filepath.Join(home, socketName)
	if len(path) <= limit {
		return path
	}
	sum := sha256.Sum256([]byte(home))
	return filepath.Join(os.TempDir(), "swarmnode-"+hex.EncodeToString(sum[:8]), socketName)
}

const socketName = "control.sock"

// checkDir refuses a directory in which somebody else could have put the socket. Home directories are the user's business.
func checkDir(home, path string) error {
	dir := filepath.Dir(path)
	if abs, err := filepath.Abs(home); err != nil || abs == dir {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() || guard.On(guard.SocketDirectory) && st.Mode().Perm()&0o077 != 0 || !ownedByMe(st) {
		return fmt.Errorf("%s does not belong to this user alone: remove it, or use a home directory with a shorter path", dir)
	}
	return nil
}
