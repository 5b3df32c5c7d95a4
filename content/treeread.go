package content

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
)

// Node is a decoded node of a file tree. It is never changed.
type Node struct{ node *node }

// NodeKeeper is a BlockSource that also remembers nodes that were decoded from it. Who looks many paths up in one tree uses one:
// decoding a node costs a hundred times what finding an entry in it does. Its methods may be called from several goroutines if
// lookups are.
type NodeKeeper interface {
	BlockSource
	// KeptNode gives a node that was kept, if it still is.
	KeptNode(d Digest) (n Node, ok bool)
	// KeepNode is handed each node that was decoded and the size of its block in bytes; decoded it is about three times as large.
	KeepNode(d Digest, n Node, size int)
}

// readNode gives a node from its block, or as it was kept.
func readNode(src BlockSource, d Digest) (*node, error) {
	keeper, keeps := src.(NodeKeeper)
	if keeps {
		if n, ok := keeper.KeptNode(d); ok {
			return n.node, nil
		}
	}
	data, err := get(src, d)
	if err != nil {
		return nil, err
	}
	n, err := decodeNode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.BlockCID(), err)
	}
	if keeps {
		keeper.KeepNode(d, Node{n}, len(data))
	}
	return n, nil
}

// loadNode reads the node c and checks that it is what its parent says.
func loadNode(src BlockSource, c child, height uint64) (*node, error) {
	n, err := readNode(src, c.digest)
	if err != nil {
		return nil, err
	}
	first := ""
	switch {
	case len(n.entries) > 0:
		first = n.entries[0].Path
	case len(n.children) > 0:
		first = n.children[0].first
	}
	if n.height != height || first != c.first {
		return nil, fmt.Errorf("%s: %w: the tree node is not where it belongs", c.digest.BlockCID(), ErrFormat)
	}
	return n, nil
}

// loadRoot reads the root node, whose height and first path nobody has promised.
func loadRoot(root Digest, src BlockSource) (*node, error) {
	n, err := readNode(src, root)
	if err == nil && n.height > MaxTreeHeight {
		err = fmt.Errorf("tree root: %w: height %d", ErrFormat, n.height)
	}
	return n, err
}

// leafRefs lists the leaves of a tree in order. An empty tree has none.
func leafRefs(root Digest, src BlockSource) ([]child, error) {
	n, err := loadRoot(root, src)
	if err != nil {
		return nil, err
	}
	if n.height == 0 {
		if len(n.entries) == 0 {
			return nil, nil
		}
		return []child{{first: n.entries[0].Path, digest: root}}, nil
	}
	level := n.children
	for height := n.height - 1; height > 0; height-- {
		var below []child
		var missing Missing
		for _, c := range level {
			n, err := loadNode(src, c, height)
			if m := (*Missing)(nil); errors.As(err, &m) {
				missing.Blocks = append(missing.Blocks, m.Blocks...)
				continue
			}
			if err != nil {
				return nil, err
			}
			below = append(below, n.children...)
		}
		if len(missing.Blocks) > 0 {
			return nil, &missing
		}
		level = below
	}
	return level, nil
}

// MissingNodes walks as much of a tree as src holds and lists the blocks (nodes and run blocks) it would need next, up to
// limit of them. None means that the whole tree is here.
func MissingNodes(root Digest, src BlockSource, limit int) ([]Digest, error) {
	n, err := loadRoot(root, src)
	if m := (*Missing)(nil); errors.As(err, &m) {
		return m.Blocks, nil
	}
	if err != nil {
		return nil, err
	}
	var missing []Digest
	return missing, missingBelow(n, src, limit, &missing)
}

func missingBelow(n *node, src BlockSource, limit int, missing *[]Digest) error {
	for _, e := range n.entries {
		for _, d := range e.RunBlocks {
			if _, ok := src.Block(d); !ok && len(*missing) < limit {
				*missing = append(*missing, d)
			}
		}
	}
	for _, c := range n.children {
		if len(*missing) >= limit {
			return nil
		}
		below, err := loadNode(src, c, n.height-1)
		if m := (*Missing)(nil); errors.As(err, &m) {
			*missing = append(*missing, m.Blocks...)
			continue
		}
		if err != nil {
			return err
		}
		if err := missingBelow(below, src, limit, missing); err != nil {
			return err
		}
	}
	return nil
}

// NodeBlocks calls fn with every block of the tree that src holds, nodes and run blocks, so that a pack can keep them.
func NodeBlocks(root Digest, src BlockSource, fn func(Digest)) error {
	n, err := loadRoot(root, src)
	if err != nil {
		return err
	}
	fn(root)
	return nodeBlocks(n, src, fn)
}

func nodeBlocks(n *node, src BlockSource, fn func(Digest)) error {
	for _, e := range n.entries {
		for _, d := range e.RunBlocks {
			fn(d)
		}
	}
	for _, c := range n.children {
		fn(c.digest)
		below, err := loadNode(src, c, n.height-1)
		if err != nil {
			return err
		}
		if err := nodeBlocks(below, src, fn); err != nil {
			return err
		}
	}
	return nil
}

// Lookup finds the entry with this path. The error is ErrNoEntry, a *[Missing], or says what is wrong with the tree.
func Lookup(root Digest, src BlockSource, path string) (Entry, error) {
	n, err := loadRoot(root, src)
	for err == nil && n.height > 0 {
		i := sort.Search(len(n.children), func(i int) bool { return ComparePaths(n.children[i].first, path) > 0 })
		if i == 0 {
			return Entry{}, fmt.Errorf("%q: %w", path, ErrNoEntry)
		}
		n, err = loadNode(src, n.children[i-1], n.height-1)
	}
	if err != nil {
		return Entry{}, err
	}
	i := sort.Search(len(n.entries), func(i int) bool { return ComparePaths(n.entries[i].Path, path) >= 0 })
	if i == len(n.entries) || n.entries[i].Path != path {
		return Entry{}, fmt.Errorf("%q: %w", path, ErrNoEntry)
	}
	return n.entries[i], nil
}

// List gives the entries directly in dir ("" for the top), in order. It skips what lies deeper.
func List(root Digest, src BlockSource, dir string) ([]Entry, error) {
	return ListFirst(root, src, dir, math.MaxInt)
}

// ListFirst is List of no more than the first most entries.
func ListFirst(root Digest, src BlockSource, dir string, most int) ([]Entry, error) {
	var out []Entry
	c := cursor{src: src, end: subtreeEnd(dir)}
	from := subtreeStart(dir)
	for {
		if len(out) >= most {
			return out, nil
		}
		if err := c.seek(root, from); err != nil {
			return nil, err
		}
		e, ok, err := c.next()
		if err != nil || !ok {
			return out, err
		}
		out = append(out, e)
		from = afterSubtree(e.Path)
	}
}

// Walk calls fn for the entry dir, if it is not "", and all entries in it, in order. It checks that each is in a
// directory. A *[Missing] error lists the blocks that the walk would need next, not just one: fetch them and walk again.
func Walk(root Digest, src BlockSource, dir string, fn func(Entry) error) error {
	var order orderCheck
	if dir != "" {
		e, err := Lookup(root, src, dir)
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
		if e.IsDir() {
			order.dirs = append(order.dirs, dir)
		}
		order.last = dir
	}
	c := cursor{src: src, end: subtreeEnd(dir)}
	if err := c.seek(root, subtreeStart(dir)); err != nil {
		return err
	}
	for {
		e, ok, err := c.next()
		if err != nil || !ok {
			return err
		}
		if err := order.next(e); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// subtreeStart and subtreeEnd bound the paths inside of dir: from start, before end; "" is no bound.
func subtreeStart(dir string) string {
	if dir == "" {
		return ""
	}
	return dir + "/"
}

func subtreeEnd(dir string) string {
	if dir == "" {
		return ""
	}
	return afterSubtree(dir)
}

// cursor moves over the entries of a tree in order.
type cursor struct {
	src   BlockSource
	end   string // stop before this key; "" is the end of the tree
	stack []cursorLevel
}

// cursorLevel is a node on the way down and the item that comes next in it.
type cursorLevel struct {
	n    *node
	next int
}

// seek stands before the first entry whose path is not before from.
func (c *cursor) seek(root Digest, from string) error {
	c.stack = c.stack[:0]
	n, err := loadRoot(root, c.src)
	if err != nil {
		return err
	}
	for n.height > 0 {
		i := sort.Search(len(n.children), func(i int) bool { return ComparePaths(n.children[i].first, from) > 0 })
		i = max(i-1, 0)
		c.stack = append(c.stack, cursorLevel{n, i + 1})
		if n, err = c.load(n, i); err != nil {
			return err
		}
	}
	i := sort.Search(len(n.entries), func(i int) bool { return ComparePaths(n.entries[i].Path, from) >= 0 })
	c.stack = append(c.stack, cursorLevel{n, i})
	return nil
}

// load reads child i of n. If it is missing, the error names the following children too as far as they are wanted and
// missing, so that they are fetched in one go.
func (c *cursor) load(n *node, i int) (*node, error) {
	below, err := loadNode(c.src, n.children[i], n.height-1)
	if m := (*Missing)(nil); errors.As(err, &m) {
		for _, next := range n.children[i+1:] {
			if c.end != "" && ComparePaths(next.first, c.end) >= 0 {
				break
			}
			if _, ok := c.src.Block(next.digest); !ok {
				m.Blocks = append(m.Blocks, next.digest)
			}
		}
	}
	return below, err
}

// next gives the entry at the cursor and moves on; ok is false behind the last.
func (c *cursor) next() (e Entry, ok bool, err error) {
	for len(c.stack) > 0 {
		top := &c.stack[len(c.stack)-1]
		switch {
		case top.n.height == 0 && top.next < len(top.n.entries):
			e = top.n.entries[top.next]
			top.next++
			if c.end != "" && ComparePaths(e.Path, c.end) >= 0 {
				c.stack = nil
				return Entry{}, false, nil
			}
			return e, true, nil
		case top.n.height > 0 && top.next < len(top.n.children):
			below, err := c.load(top.n, top.next)
			if err != nil {
				return Entry{}, false, err
			}
			top.next++
			c.stack = append(c.stack, cursorLevel{below, 0})
		default:
			c.stack = c.stack[:len(c.stack)-1]
		}
	}
	return Entry{}, false, nil
}

// CleanDir makes the form that List and Walk take of what a person or a URL writes: no slashes at the ends.
func CleanDir(p string) string { return strings.Trim(p, "/") }
