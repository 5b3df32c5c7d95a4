package gateway

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"swarmnode/content"
)

const (
	// pieceHash is the length of a piece's hash in a torrent: SHA-1 (BEP 3).
	pieceHash = sha1.Size
	// minPiece and maxPiece bound the pieces of a torrent, in bytes; in between there are about wantPieces, so that a torrent has at
	// most 40 KB: what mktorrent and transmission aim at.
	minPiece, maxPiece = 256 << 10, 16 << 20
	wantPieces         = 1024
	// maxHashing is how many files may wait for that; more are refused.
	maxHashing = 16
	// hashPatience is how long a request waits for the hashes: 2 GB or so, as SHA-1 does 0.9 GB/s and reading costs as much again.
	// Clients give up after 10 to 30 s.
	hashPatience = 5 * time.Second
	// hashIdle is how long a file is hashed after somebody last asked for it. It is longer than every Retry-After.
	hashIdle = 2 * time.Minute
	// maxRetry is the longest Retry-After, so that who obeys it keeps the work going.
	maxRetry = time.Minute
	// maxFetched is how many bytes of a file are fetched from peers for its torrent: one request must not make a node that keeps only
	// what is asked for fetch a whole archive.
	maxFetched = 64 << 20
	// hashMemory bounds the bytes of piece hashes that are remembered: 800 torrents of 20 KB.
	hashMemory = 16 << 20
	// hashReader is the number by which the source knows the one reader that hashes; those of requests count up from 1.
	hashReader = 1<<64 - 1
	// hashAhead is how many chunks the source is told of in advance.
	hashAhead = 8
)

// errElsewhere says that too little of a file is here for its torrent.
var errElsewhere = errors.New("most of the file is not here")

// errMany says that no more torrents are computed now.
var errMany = errors.New("as many torrents as possible are being computed")

// serveTorrent answers with a torrent that has no tracker: the bytes come from web seeds (BEP 19), which are this gateway and
// the mirrors. Its info hash depends on nothing but the name and the bytes, so it is the same at every gateway.
func (g *Gateway) serveTorrent(w http.ResponseWriter, r *http.Request, c *Collection, f found, p string) {
	rel, e := f.rel, f.entry
	sites := g.sites(r, c, rel, maxSites)
	if len(sites) == 0 {
		unavailable(w, retryAfter, noAddress)
		return
	}
	hashes, known := g.pieces.known(c, e)
	if !known && r.Method == http.MethodHead { // it costs nobody anything; what is only known from the bytes is left out (RFC 9110 section 9.3.2)
		n := (e.Size + pieceLength(e.Size) - 1) / pieceLength(e.Size)
		w.Header().Set("Content-Length", strconv.Itoa(len(torrent(rel, e, p, make([]byte, n*pieceHash), sites))))
		w.Header().Set("Content-Type", torrentType)
		w.WriteHeader(http.StatusOK)
		return
	}
	if !known {
		var ok bool
		if hashes, ok = g.hashPieces(w, r, c, f); !ok {
			return
		}
	}
	serveDocument(w, r, torrentType, p+".torrent", torrent(rel, e, p, hashes, sites))
}

const torrentType = "application/x-bittorrent"

// hashPieces gives the piece hashes of a file, or answers why not.
func (g *Gateway) hashPieces(w http.ResponseWriter, r *http.Request, c *Collection, f found) ([]byte, bool) {
	hashes, wait, err := g.pieces.get(r.Context(), c, f.rel, f.entry)
	switch {
	case wait > 0:
		unavailable(w, wait, fmt.Sprintf("The torrent is being computed, which takes a while for a large file. Ask again in about %d seconds.", int(wait.Seconds())))
	case errors.Is(err, errElsewhere):
		unavailable(w, retryAfter, "Most of the file is not on this mirror, which only fetches it for those who download it. Download the file itself, or take the torrent from another mirror.")
	case errors.Is(err, errMany):
		unavailable(w, retryAfter, "This gateway computes as many torrents as it can at once. Try again in a minute, or download the file itself.")
	case err != nil:
		g.cfg.Log.Debug("a torrent cannot be computed", "path", f.path, "error", err)
		unavailable(w, retryAfter, "Not all of the file can be had now, so its torrent cannot be computed. Try again later.")
	default:
		return hashes, true
	}
	return nil, false
}

// torrent makes the torrent of a file at the sites.
func torrent(rel *Release, e content.Entry, p string, hashes []byte, sites []site) []byte {
	seeds := make([]any, len(sites))
	for i, at := range sites {
		seeds[i] = at.file(p)
	}
	return bencode(nil, map[string]any{
		"created by":    "swarmnode",
		"creation date": rel.Manifest.Created,
		"info":          map[string]any{"length": int64(e.Size), "name": path.Base(p), "piece length": int64(pieceLength(e.Size)), "pieces": string(hashes)},
		"url-list":      seeds,
	})
}

// bencode appends the bencoding (BEP 3) of strings, integers, lists and dictionaries. It is these lines because nothing here reads
// the format: a library would bring a decoder and reflection.
func bencode(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		b = strconv.AppendInt(b, int64(len(v)), 10)
		return append(append(b, ':'), v...)
	case int64:
		b = strconv.AppendInt(append(b, 'i'), v, 10)
		return append(b, 'e')
	case []any:
		b = append(b, 'l')
		for _, x := range v {
			b = bencode(b, x)
		}
		return append(b, 'e')
	case map[string]any:
		b = append(b, 'd')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b = bencode(bencode(b, k), v[k])
		}
		return append(b, 'e')
	}
	panic(fmt.Sprintf("bencode of a %T", v))
}

// pieceLength is how a file of this size is cut: a power of two (BEP 3).
func pieceLength(size uint64) uint64 {
	n := uint64(minPiece)
	for n < maxPiece && size/n > wantPieces {
		n *= 2
	}
	return n
}

// pieceKey names the content of a file. Its hash is what its publisher says, so it means nothing in another collection.
type pieceKey struct {
	id  content.ID
	sum content.Digest
}

// pieces computes the piece hashes of files and remembers them by the files' content. A file is hashed once, for all who ask,
// and only as long as somebody does.
type pieces struct {
	ctx     context.Context // ends with close
	stop    context.CancelFunc
	wg      sync.WaitGroup
	fetched int64         // maxFetched
	turn    chan struct{} // capacity 1: held while a file is hashed, which keeps a core busy
	now     func() time.Time

	done *recent[pieceKey, []byte]

	mu    sync.Mutex // guards all below
	jobs  map[pieceKey]*hashing
	ended bool
}

// hashing is a file that is being hashed.
type hashing struct {
	done   chan struct{} // closed at the end
	hashes []byte        // of it; set before, as err
	err    error
	idle   *time.Timer // ends the work if nobody asks any more
	size   uint64

	mu    sync.Mutex // guards the rest
	begun time.Time  // zero while it waits for its turn
	read  uint64
}

func newPieces(now func() time.Time) *pieces {
	ctx, stop := context.WithCancel(context.Background())
	return &pieces{ctx: ctx, stop: stop, turn: make(chan struct{}, 1), fetched: maxFetched, now: now,
		jobs: map[pieceKey]*hashing{}, done: newRecent[pieceKey, []byte](hashMemory)}
}

// close ends all work and waits for its end.
func (ps *pieces) close() {
	ps.mu.Lock()
	ps.ended = true
	ps.mu.Unlock()
	ps.stop()
	ps.wg.Wait()
}

// known gives hashes that were computed before.
func (ps *pieces) known(c *Collection, e content.Entry) ([]byte, bool) {
	return ps.done.get(pieceKey{c.ID, e.SHA256})
}

// get gives the hashes of a file's pieces, one behind the other. If that takes longer than hashPatience it gives the time after
// which to ask again.
func (ps *pieces) get(ctx context.Context, c *Collection, rel *Release, e content.Entry) (hashes []byte, again time.Duration, err error) {
	if h, ok := ps.known(c, e); ok {
		return h, 0, nil
	}
	job, err := ps.job(c, rel, e)
	if err != nil {
		return nil, 0, err
	}
	patience := time.NewTimer(hashPatience)
	defer patience.Stop()
	select {
	case <-job.done:
		return job.hashes, 0, job.err
	case <-patience.C:
		return nil, job.remaining(ps.now()), nil
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
}

// job finds the work on a file, or begins it.
func (ps *pieces) job(c *Collection, rel *Release, e content.Entry) (*hashing, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	key := pieceKey{c.ID, e.SHA256}
	if job, ok := ps.jobs[key]; ok && job.idle.Reset(hashIdle) {
		return job, nil
	} else if ok {
		return nil, errMany // it is just being given up
	}
	if ps.ended || len(ps.jobs) >= maxHashing {
		return nil, errMany
	}
	ctx, cancel := context.WithCancel(ps.ctx)
	job := &hashing{done: make(chan struct{}), idle: time.AfterFunc(hashIdle, cancel), size: e.Size}
	ps.jobs[key] = job
	ps.wg.Add(1)
	go func() {
		defer ps.wg.Done()
		defer cancel()
		defer job.idle.Stop()
		hashes, err := ps.work(ctx, job, c, rel, e)
		ps.mu.Lock()
		delete(ps.jobs, key)
		if job.hashes, job.err = hashes, err; err == nil {
			ps.done.put(key, hashes, len(hashes))
		}
		ps.mu.Unlock()
		close(job.done)
	}()
	return job, nil
}

// work reads a file and hashes its pieces when it is its turn.
func (ps *pieces) work(ctx context.Context, job *hashing, c *Collection, rel *Release, e content.Entry) ([]byte, error) {
	select {
	case ps.turn <- struct{}{}:
		defer func() { <-ps.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	job.progress(ps.now(), 0)
	l, err := newLayout(rel, e)
	if err != nil {
		return nil, err
	}
	refs, lacks := make([]content.Ref, l.chunks()), int64(0)
	for n := range refs {
		p := l.place(n)
		if refs[n] = p.ref; !c.Source.Here(p.ref) {
			lacks += p.size
		}
	}
	if lacks > ps.fetched {
		return nil, errElsewhere
	}
	defer c.Source.Ahead(hashReader, rel, nil)
	p := piecer{length: pieceLength(e.Size), hash: sha1.New()}
	buf := make([]byte, content.MaxChunkSize)
	for i, ref := range refs {
		c.Source.Ahead(hashReader, rel, refs[i:min(i+hashAhead, len(refs))])
		data, err := c.Source.Chunk(ctx, rel, ref, buf)
		if err != nil {
			return nil, fmt.Errorf("hash pieces: %w", err)
		}
		p.write(data)
		job.progress(ps.now(), p.size)
	}
	return p.end(), nil
}

// piecer hashes a stream piece by piece.
type piecer struct {
	length uint64
	hash   hash.Hash // of the piece under way
	size   uint64    // of all pieces
	hashes []byte    // of those that are full
}

func (p *piecer) write(data []byte) {
	for len(data) > 0 {
		n := min(uint64(len(data)), p.length-p.size%p.length)
		p.hash.Write(data[:n])
		p.size += n
		if p.size%p.length == 0 {
			p.hashes = p.hash.Sum(p.hashes)
			p.hash.Reset()
		}
		data = data[n:]
	}
}

func (p *piecer) end() []byte {
	if p.size%p.length != 0 {
		p.hashes = p.hash.Sum(p.hashes)
	}
	return p.hashes
}

// progress notes how far the work is.
func (j *hashing) progress(now time.Time, read uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.begun.IsZero() {
		j.begun = now
	}
	j.read = read
}

// remaining estimates how long the work goes on, in whole seconds, at most maxRetry.
func (j *hashing) remaining(now time.Time) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.read == 0 {
		return maxRetry
	}
	left := time.Duration(float64(now.Sub(j.begun)) * float64(j.size-j.read) / float64(j.read))
	return min(maxRetry, max(left, 0).Truncate(time.Second)+time.Second)
}
