package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

const (
	// DefaultCache is the budget of a node that keeps only what is asked for and was not told how much: what a laptop can spare, and
	// enough for what the machines of a small office install of a distribution in a month.
	DefaultCache = 10 << 30
	// cacheSpare is the part of the budget, one in so many, that is free when eviction begins, and twice that when it ends: so what is
	// fetched finds room while it works.
	cacheSpare = 20
	// maxCacheSpare is the most of it: more than arrives in a second at 1 Gbit/s, and evicting takes less.
	maxCacheSpare = 256 << 20
	// cacheLook is how often the room is looked at though nothing is put: other collections share the budget.
	cacheLook = 10 * time.Second
	// cacheGrains is how many parts of a segment are told apart by when they were used last: about 256 KiB each, so that those of 4 TB
	// take 128 MB of memory and those of 10 GB less than 1 MB.
	cacheGrains = 256
)

// errNoRoom says that a chunk is not kept: the budget is used up, and what is to go has not gone yet.
var errNoRoom = errors.New("there is no room in the cache at this moment")

// Cache is the store of a node that keeps nothing but what is asked for: it takes chunks as long as its [store.Disk] has room, and
// frees what was not used for longest, what is dead in the newest release first. The budget of the disk holds at every moment:
// a chunk that finds no room is not kept. Nobody waits for room. After a start, what is here counts as not used yet.
type Cache struct {
	disk *store.Disk
	log  *slog.Logger

	putting  sync.Mutex // guards reserved
	reserved int64      // bytes of chunks that are being put
	wish     atomic.Int64
	crowded  chan struct{} // tells Run that there is little room

	hits, misses atomic.Uint64

	mu   sync.Mutex // guards all below
	used map[uint32]*uses
	anew map[uint32]content.Bitmap                                // chunks that were fetched and not given to anybody since
	now  uint64                                                   // counts uses
	info func(segment uint32) (s content.SegmentInfo, known bool) // of the newest release whose metadata is here; not known if there is none
	tell func(segment uint32)                                     // that less of a segment is here
}

// uses is when the parts of a segment were used last.
type uses struct {
	grain uint32 // chunks in a part
	last  []uint64
}

// NewCache makes one on a disk that has a budget. The Mirror that gets it says what is live.
func NewCache(disk *store.Disk, log *slog.Logger) *Cache {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Cache{disk: disk, log: log, crowded: make(chan struct{}, 1), used: map[uint32]*uses{}, anew: map[uint32]content.Bitmap{},
		info: func(uint32) (content.SegmentInfo, bool) { return content.SegmentInfo{}, false }, tell: func(uint32) {}}
}

// Put keeps a chunk, which was fetched because somebody asked for it or will, if there is room. The errors are those of store.Disk.Put, and one that says that there is no room.
func (c *Cache) Put(ref content.Ref, data []byte) error {
	c.misses.Add(1)
	size := int64(len(data))
	if err := c.reserve(size); err != nil {
		return err
	}
	defer func() {
		c.putting.Lock()
		defer c.putting.Unlock()
		c.reserved -= size
	}()
	err := c.disk.Put(ref, data)
	if errors.Is(err, store.ErrNotHere) { // the segment was not added, or went when the last of it was evicted
		if err = c.add(ref.Segment); err == nil {
			err = c.disk.Put(ref, data)
		}
	}
	if err == nil {
		c.Use(ref)
		c.mu.Lock()
		defer c.mu.Unlock()
		anew := c.anew[ref.Segment]
		anew.Set(ref.Index)
		c.anew[ref.Segment] = anew
	}
	return err
}

// reserve takes room for a chunk that is about to be put. If there is little left, Run is told.
func (c *Cache) reserve(size int64) error {
	c.putting.Lock()
	defer c.putting.Unlock()
	err := c.disk.CheckBudget(c.reserved + size)
	if err != nil || c.disk.CheckBudget(c.reserved+size+c.spare()) != nil {
		c.wish.Store(max(c.wish.Load(), size))
		select {
		case c.crowded <- struct{}{}:
		default:
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	c.reserved += size
	return nil
}

func (c *Cache) add(segment uint32) error {
	info, _ := c.describe(segment)
	if info.Retired() {
		return fmt.Errorf("segment %d: %w: the newest release does not have it", segment, store.ErrNotHere)
	}
	return c.disk.Add(segment, info, nil)
}

// describe is what the newest release says of a segment.
func (c *Cache) describe(segment uint32) (info content.SegmentInfo, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info(segment)
}

// Hit says that a chunk goes to somebody who asked for it. The first time after it was fetched does not count: it was a miss.
func (c *Cache) Hit(ref content.Ref) {
	c.Use(ref)
	c.mu.Lock()
	defer c.mu.Unlock()
	anew := c.anew[ref.Segment]
	if !anew.Has(ref.Index) {
		c.hits.Add(1)
		return
	}
	if anew.Clear(ref.Index); len(anew) == 0 {
		delete(c.anew, ref.Segment)
	} else {
		c.anew[ref.Segment] = anew
	}
}

// Use notes that a chunk is used now.
func (c *Cache) Use(ref content.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.used[ref.Segment]
	if u == nil {
		info, _ := c.info(ref.Segment)
		chunks := cmp.Or(info.Chunks, content.MaxSegmentChunks)
		u = &uses{grain: (chunks + cacheGrains - 1) / cacheGrains}
		c.used[ref.Segment] = u
	}
	part := int(ref.Index / u.grain)
	for len(u.last) <= part {
		u.last = append(u.last, 0)
	}
	c.now++
	u.last[part] = c.now
}

// Run frees what was not used for longest whenever there is little room, until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(cacheLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.crowded:
		case <-tick.C:
		}
		if err := c.Evict(); err != nil {
			c.log.Warn("the cache cannot free what it holds: look at the disk", "error", err)
		}
	}
}

// Evict frees so much that a spare part of the budget is free, or as much as somebody wished to put.
func (c *Cache) Evict() error {
	if c.wish.Load() == 0 && c.lacks(c.spare()) <= 0 {
		return nil
	}
	want := max(2*c.spare(), c.wish.Swap(0))
	lacks := c.lacks(want)
	if lacks <= 0 {
		return nil
	}
	if err := c.evictDead(); err != nil {
		return err
	}
	for range 8 { // sizes are estimated, so it may take more than one round
		if lacks = c.lacks(want); lacks <= 0 {
			return nil
		}
		if freed, err := c.evictOldest(lacks); err != nil || !freed {
			return err
		}
	}
	return nil
}

// lacks is how much has to go until so many bytes are free.
func (c *Cache) lacks(want int64) int64 {
	lacks := want - (c.disk.Budget() - c.disk.Used())
	var short *store.BudgetError
	if err := c.disk.CheckBudget(want); errors.As(err, &short) { // on the disk, too
		lacks = max(lacks, short.Need-short.Free)
	}
	return lacks
}

// spare is how much is kept free for what comes while Evict works.
func (c *Cache) spare() int64 { return min(c.disk.Budget()/cacheSpare, maxCacheSpare) }

// evictDead frees what the newest release does not have.
func (c *Cache) evictDead() error {
	for _, n := range c.disk.Segments() {
		info, known := c.describe(n)
		dead := c.disk.Have(n)
		dead.AndNot(info.Live())
		if !known || dead.Count() == 0 {
			continue
		}
		if err := c.free(n, dead); err != nil {
			return err
		}
	}
	return nil
}

// part is a part of a segment of which something is here.
type part struct {
	segment uint32
	number  int
	last    uint64
	bytes   int64 // about
	chunks  content.Bitmap
}

// evictOldest frees the parts that were not used for longest, about so many bytes of them. It reports whether there were any.
func (c *Cache) evictOldest(bytes int64) (freed bool, err error) {
	parts := c.parts()
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.segment, b.segment), cmp.Compare(a.number, b.number))
	})
	bySegment := map[uint32]content.Bitmap{}
	for _, p := range parts {
		if bytes <= 0 {
			break
		}
		bytes -= p.bytes
		all := bySegment[p.segment]
		all.Or(p.chunks)
		bySegment[p.segment] = all
	}
	for n, chunks := range bySegment { // the order means nothing: all go
		if err := c.free(n, chunks); err != nil {
			return true, err
		}
	}
	return len(bySegment) > 0, nil
}

// parts lists what is here.
func (c *Cache) parts() (list []part) {
	for _, n := range c.disk.Segments() {
		have := c.disk.Have(n)
		info, _ := c.describe(n)
		each := int64(content.MaxChunkSize) // of a chunk, about
		if info.Chunks > 0 {
			each = max(int64(info.Size)/int64(info.Chunks), 1)
		}
		grain, last := c.lastUses(n)
		now := part{number: -1}
		for i := range uint32(len(have)) * 8 {
			if !have.Has(i) {
				continue
			}
			if k := int(i / grain); k != now.number {
				if now.bytes > 0 {
					list = append(list, now)
				}
				now = part{segment: n, number: k}
				if k < len(last) {
					now.last = last[k]
				}
			}
			now.bytes += each
			now.chunks.Set(i)
		}
		if now.bytes > 0 {
			list = append(list, now)
		}
	}
	return list
}

// lastUses says when the parts of a segment were used last, and how many chunks are in one.
func (c *Cache) lastUses(segment uint32) (grain uint32, last []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.used[segment]; u != nil {
		return u.grain, slices.Clone(u.last)
	}
	return 1, nil
}

// free drops chunks of a segment, and the segment when nothing of it is left.
func (c *Cache) free(segment uint32, chunks content.Bitmap) error {
	if err := c.disk.Punch(segment, chunks); err != nil {
		return err
	}
	if c.disk.Have(segment).Count() == 0 {
		c.mu.Lock()
		delete(c.used, segment)
		delete(c.anew, segment)
		c.mu.Unlock()
		if err := c.disk.Remove(segment); err != nil {
			return err
		}
	}
	c.mu.Lock()
	tell := c.tell
	c.mu.Unlock()
	tell(segment)
	return nil
}

// CacheStats are the figures of a Cache.
type CacheStats struct {
	Used   int64  // bytes of chunks
	Budget int64  // with metadata and other collections
	Hits   uint64 // chunks asked for since the start that were here
	Misses uint64 // and that had to be fetched
}

// Stats gives the figures.
func (c *Cache) Stats() CacheStats {
	return CacheStats{Used: c.disk.Stats().Used, Budget: c.disk.Budget(), Hits: c.hits.Load(), Misses: c.misses.Load()}
}
