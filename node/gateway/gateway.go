// Package gateway serves releases to ordinary clients over HTTP: apt, dnf, pacman, curl, aria2, browsers. A request sees one
// release from its first byte to its last. A hit and a miss are the same code path: each chunk comes from a [Source], which has
// it in the store or fetches it from peers, and no byte leaves before its chunk's hash matched. What a client can rely on is in
// the headers: validators and digests from signed data, the same at every gateway of a release.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
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
	Paused  bool       // the operator wants nothing of it to be served; Served is nil
	Served  *Release   // nil: nothing can be served yet
	Next    *Release   // newer than the served one and not whole here yet, its metadata is; nil if there is none
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
	// Chunk gives a chunk whose hash matched, in buf if that is large enough. It is ErrUnavailable when nobody has it now, at the latest
	// some seconds after nobody had any of it; a context ends it earlier.
	Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error)
	// File gives the open file in which the chunk lies and its offset there, if this process has verified it: the kernel can send it
	// without a copy. The file is the caller's alone, its position too, until release says that it was sent. ok is false when only
	// Chunk can give the chunk.
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

// Gateway answers requests for all collections of its catalogue. It is an http.Handler and safe for concurrent use. The server in
// front of it calls [WithConnection], so that the requests of one connection see one release.
type Gateway struct {
	cfg     Config
	nodes   *recent[content.Digest, content.Node]
	objects *recent[objectKey, *object]
	layouts *recent[layoutKey, *layout]
	pages   *recent[pageKey, *page]
	sums    *recent[sumsKey, *suiteSums]
	sending sending
	turns   turns
	room    *room
	reader  atomic.Uint64 // number of the last reader, see Source.Ahead
	derived
	tuf
}

const (
	// nodeBytes bounds the nodes of file trees that are remembered, as blocks; decoded they are three times as large. 8 MiB of blocks
	// are the lower level of a tree of 60,000 files, and all upper levels of one of 2 million.
	nodeBytes = 8 << 20
	// objectsKept is how many looked-up paths are remembered, at about a kilobyte each: the packages that a day's updates are about.
	objectsKept = 8 << 10
	// layoutBytes bounds what is remembered of where chunks lie in files, an eighth of it of one file: 4 bytes a chunk, so a million chunks,
	// which are 256 GiB. What is not remembered is made again for each range of the file.
	layoutBytes = 32 << 20
	// pageBytes bounds the directory pages that are kept; the largest directories of archives have 1 MB of them.
	pageBytes = 8 << 20
	// sumsKept bounds the lines of Release files that are remembered, an eighth of them of one file. Those of Debian have 1,500 to
	// 6,000 a section, and one costs about 200 bytes.
	sumsKept = 200_000
)

// New makes a gateway.
func New(cfg Config) *Gateway {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Gateway{
		cfg:     cfg,
		nodes:   newAging[content.Digest, content.Node](nodeBytes, cfg.Now),
		objects: newAging[objectKey, *object](objectsKept, cfg.Now),
		layouts: newAging[layoutKey, *layout](layoutBytes, cfg.Now),
		pages:   newAging[pageKey, *page](pageBytes, cfg.Now),
		sums:    newAging[sumsKey, *suiteSums](sumsKept, cfg.Now),
		turns:   newTurns(),
		room:    newRoom(),
		derived: newDerived(cfg.Now),
		tuf:     newTUF(),
	}
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Content-Type-Options"] = noSniff
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed, "This is a mirror: it only answers GET and HEAD.")
		return
	}
	name, path, err := splitTarget(r.URL.EscapedPath())
	if err != nil {
		fail(w, http.StatusBadRequest, "This mirror cannot take that: "+err.Error()+". Check it for doubled slashes, dots and stray percent signs.")
		return
	}
	all := g.cfg.Catalogue.Collections()
	switch {
	case name == "":
		g.serveFront(w, r, all)
	case name == "-":
		g.serveOwn(w, r, all, path)
	default:
		if c := g.collection(w, all, name); c != nil {
			g.serveCollection(w, r, c, path)
		}
	}
}

// collection finds the collection that an address names, or answers that there is none or more than one.
func (g *Gateway) collection(w http.ResponseWriter, all []*Collection, name string) *Collection {
	var found []*Collection
	for _, c := range all {
		if c.Name == name || c.ID.String() == name {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		fail(w, http.StatusNotFound, fmt.Sprintf("This mirror has no collection %q. The page / lists those that it has.", name))
		return nil
	case 1:
		answeredBy(w, found[0])
		return found[0]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "This mirror has %d collections named %q: take the one you mean by its ID.", len(found), name)
	for _, c := range found {
		fmt.Fprintf(&b, "\n/%s/", c.ID)
	}
	fail(w, http.StatusMultipleChoices, b.String())
	return nil
}

// serveOwn answers what the gateway says of itself, below /-/, which is not the name of any collection.
func (g *Gateway) serveOwn(w http.ResponseWriter, r *http.Request, all []*Collection, path string) {
	switch path {
	case "/health":
		serveText(w, r, "text/plain; charset=utf-8", []byte("ok\n"))
		return
	case "/status.json":
		serveText(w, r, "application/json", statusJSON(all))
		return
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	kind, below, _ := strings.Cut(rest, "/")
	switch {
	case kind == "metadata" && below != "", kind == "targets" && below != "":
		if c := g.collection(w, all, name); c != nil {
			g.serveMetadata(w, r, c, rest)
		}
	case kind == "mirrorlist":
		if c := g.collection(w, all, name); c != nil {
			g.serveMirrorlist(w, r, c, below)
		}
	default:
		fail(w, http.StatusNotFound, "This mirror has no such page. The page / lists its collections.")
	}
}
