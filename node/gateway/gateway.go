// Package gateway serves releases to ordinary clients over HTTP: apt, dnf, pacman, curl, aria2, browsers. A request sees one
// release from its first byte to its last. A hit and a miss are the same code path: each chunk comes from a [Source], which has
// it in the store or fetches it from peers, and no byte leaves before its chunk's hash matched. What a client can rely on is in
// the headers: validators and digests from signed data, the same at every gateway of a release.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"swarmnode/content"
)

// ErrUnavailable says that nobody reached has a chunk now. It may be there later.
var ErrUnavailable = errors.New("no peer that is connected has this part of the file now")

// Catalogue tells what can be served. Package node has it.
type Catalogue interface {
	// Collections lists what can be served at this moment, sorted by name, then by ID. The answer does not change afterwards, so
	// that a request sees one release.
	Collections() []*Collection
}

// Collection is one collection at one moment.
type Collection struct {
	ID      content.ID
	Name    string
	Served  *Release   // nil: nothing can be served yet
	Kept    []*Release // replaced ones within grace, newest first
	Newest  uint64     // number of the newest release that is verified
	Fresh   time.Time  // signing time of the newest timestamp that names the served release
	Expires time.Time  // after it nothing mutable is served
	Source  Source
	// Metadata gives a signed file by the name that gossip/trust has for it; fs.ErrNotExist.
	Metadata func(name string) ([]byte, error)
	// Mirrors lists other gateways of the collection that this node has checked, the nearest first.
	Mirrors func() []Mirror
}

// Release is a release whose metadata is here.
type Release struct {
	Manifest *content.Manifest
	Infos    []content.SegmentInfo // by segment number
	Blocks   content.BlockSource   // tree nodes, run blocks, tables
}

// Source gives the bytes of chunks, from the store, else from peers. All its methods are safe for concurrent use.
type Source interface {
	// Chunk gives a chunk whose hash matched, in buf if that is large enough. It is ErrUnavailable when nobody has it now.
	Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error)
	// File gives the open file in which the chunk lies and its offset there, if this process has verified it: the kernel can send it
	// without a copy. release says that it was sent. ok is false when only Chunk can give it.
	File(ref content.Ref) (f *os.File, offset int64, release func(), ok bool)
	// Ahead says that a reader will ask for these chunks next, in this order. It replaces the reader's last hint; nil ends it.
	Ahead(reader uint64, r *Release, refs []content.Ref)
	// Here reports whether the chunk is in the store.
	Here(ref content.Ref) bool
}

// Mirror is another gateway, as this node last found it.
type Mirror struct {
	URL     string // of its root, ends with "/"
	Release uint64
	RTT     time.Duration
	Checked time.Time
}

// Config is what a gateway works with. Catalogue is required.
type Config struct {
	Catalogue Catalogue
	// URL is the address of this gateway as others reach it, ends with "/"; "" when it is not known. Absolute links need it: the Host
	// header is never believed.
	URL string
	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: discard
}
