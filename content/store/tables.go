package store

import (
	"container/list"
	"fmt"
	"sync"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// tables keeps the segment tables used last. The others are asked for again: 100 GB of segments would otherwise hold
// tens of megabytes in memory for tables that nobody reads.
type tables struct {
	load  func(content.Digest) (*content.Table, error)
	limit int // chunks in all tables kept

	mu     sync.Mutex // guards what follows
	byID   map[content.Digest]*list.Element
	recent list.List // of *cachedTable, the one used last in front
	chunks int
}

type cachedTable struct {
	id    content.Digest
	table *content.Table
}

func newTables(limit int, load func(content.Digest) (*content.Table, error)) *tables {
	return &tables{load: load, limit: limit, byID: map[content.Digest]*list.Element{}}
}

// get gives the table with this digest, of a segment with so many chunks and bytes.
func (c *tables) get(id content.Digest, chunks, size uint32) (*content.Table, error) {
	c.mu.Lock()
	if e := c.byID[id]; e != nil {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*cachedTable).table, nil
	}
	c.mu.Unlock()
	t, err := c.load(id)
	if err != nil {
		return nil, fmt.Errorf("segment table %s: %w", id.BlockCID(), err)
	}
	if t == nil || t.Len() != chunks || t.Size() != size {
		return nil, fmt.Errorf("segment table %s: %w", id.BlockCID(), ErrOtherTable)
	}
	c.add(id, t)
	return t, nil
}

func (c *tables) add(id content.Digest, t *content.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[id] != nil {
		return
	}
	c.byID[id] = c.recent.PushFront(&cachedTable{id: id, table: t})
	c.chunks += int(t.Len())
	for c.chunks > c.limit && c.recent.Len() > 1 {
		last := c.recent.Remove(c.recent.Back()).(*cachedTable)
		delete(c.byID, last.id)
		c.chunks -= int(last.table.Len())
	}
}

// check refuses what does not belong together, so that a store never trusts its caller with places on disk.
// Without a table it asks for it.
func (c *tables) check(number uint32, info content.SegmentInfo, t *content.Table) (*content.Table, error) {
	switch {
	case number >= content.MaxSegments:
		return nil, fmt.Errorf("add segment %d: %w: the last number is %d", number, ErrOutOfRange, content.MaxSegments-1)
	case info.Retired():
		return nil, fmt.Errorf("add segment %d: it is retired", number)
	case t == nil:
		return c.get(info.Table, info.Chunks, info.Size)
	case t.Len() != info.Chunks || t.Size() != info.Size || guard.On(guard.TableDigest) && content.Sum(t.Encode()) != info.Table:
		return nil, fmt.Errorf("add segment %d: %w: %s", number, ErrOtherTable, info.Table.BlockCID())
	}
	c.add(info.Table, t)
	return t, nil
}
