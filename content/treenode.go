package content

import (
	"encoding/binary"
	"fmt"
)

// The file tree is a prolly tree (Merkle tree whose node boundaries depend on the keys alone; see DoltDB's
// "Prolly Trees" and Auvolat and Taïani, "Merkle Search Trees", SRDS 2019): the same entries give the same root
// whatever the order of the changes that led to them, and a changed entry changes one node a level.
const (
	// nodeFanout is the mean number of items of a node: with about 130 bytes an entry, 4 KiB a node.
	nodeFanout = 32
	// nodeSoftSize closes a node at any item, in bytes. With the largest possible entry behind it a node stays under MaxNodeSize.
	nodeSoftSize = 32 << 10
)

// Put stores a metadata block and gives its digest.
type Put func(block []byte) (Digest, error)

// node is a decoded tree node: entries at height 0, else children.
type node struct {
	height   uint64
	entries  []Entry
	children []child
}

// child is a reference to a node: the first path in it and its digest.
type child struct {
	first  string
	digest Digest
}

type leafBlock struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Height  uint64
	Entries []entryBlock
}

type innerBlock struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64
	Height   uint64
	Children []childBlock
}

type childBlock struct {
	_     struct{} `cbor:",toarray"`
	First string
	Node  Link
}

// isBoundary says whether a node of this height ends behind the item with this key.
func isBoundary(height uint64, key string) bool {
	var buf [MaxPath + 1]byte
	buf[0] = byte(height)
	d := Sum(buf[:1+copy(buf[1:], key)])
	return binary.BigEndian.Uint32(d[:4])%nodeFanout == 0
}

// decodeNode reads a tree node and checks the order of its items.
func decodeNode(data []byte) (*node, error) {
	height, err := nodeHeight(data)
	if err != nil {
		return nil, fmt.Errorf("tree node: %w", err)
	}
	n := &node{height: height}
	if height == 0 {
		n.entries, err = decodeLeaf(data)
	} else {
		n.children, err = decodeInner(data)
	}
	if err != nil {
		return nil, fmt.Errorf("tree node: %w", err)
	}
	return n, nil
}

// nodeHeight reads the first two numbers of a node: an array of 3, the version, the height.
func nodeHeight(data []byte) (uint64, error) {
	if len(data) < 4 || len(data) > MaxNodeSize || data[0] != 0x83 {
		return 0, fmt.Errorf("%w: node of %d bytes", ErrFormat, len(data))
	}
	if data[1] >= 24 || data[2] >= 24 { // both are one-byte integers in every version that we could read
		return 0, fmt.Errorf("%w: version or height of a node", ErrFormat)
	}
	if err := checkVersion(uint64(data[1])); err != nil {
		return 0, err
	}
	return uint64(data[2]), nil
}

func decodeLeaf(data []byte) ([]Entry, error) {
	var b leafBlock
	if err := Decode(data, MaxNodeSize, &b); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(b.Entries))
	for i, eb := range b.Entries {
		e, err := eb.entry()
		if err != nil {
			return nil, err
		}
		if i > 0 && ComparePaths(entries[i-1].Path, e.Path) >= 0 {
			return nil, fmt.Errorf("%w: %q is not behind %q", ErrFormat, e.Path, entries[i-1].Path)
		}
		entries[i] = e
	}
	return entries, nil
}

func decodeInner(data []byte) ([]child, error) {
	var b innerBlock
	if err := Decode(data, MaxNodeSize, &b); err != nil {
		return nil, err
	}
	if len(b.Children) == 0 {
		return nil, fmt.Errorf("%w: inner node without children", ErrFormat)
	}
	children := make([]child, len(b.Children))
	for i, c := range b.Children {
		if err := CheckPath(c.First); err != nil {
			return nil, err
		}
		if i > 0 && ComparePaths(children[i-1].first, c.First) >= 0 {
			return nil, fmt.Errorf("%w: %q is not behind %q", ErrFormat, c.First, children[i-1].first)
		}
		children[i] = child{first: c.First, digest: Digest(c.Node)}
	}
	return children, nil
}

// levelBuilder cuts a sorted stream of items of one height into nodes.
type levelBuilder struct {
	height   uint64
	put      Put
	entries  []entryBlock
	children []childBlock
	first    string
	size     int
	out      []child // the nodes made
}

// empty reports whether the builder stands at a boundary.
func (b *levelBuilder) empty() bool { return len(b.entries)+len(b.children) == 0 }

func (b *levelBuilder) addEntry(e Entry) error {
	if b.empty() {
		b.first = e.Path
	}
	b.entries = append(b.entries, e.block())
	b.size += entrySize(e)
	if b.size >= nodeSoftSize || isBoundary(0, e.Path) {
		return b.flush()
	}
	return nil
}

func (b *levelBuilder) addChild(c child) error {
	if b.empty() {
		b.first = c.first
	}
	b.children = append(b.children, childBlock{First: c.first, Node: Link(c.digest)})
	b.size += len(c.first) + 48
	// A node of one child would let a level be as long as the one below it.
	if b.size >= nodeSoftSize || len(b.children) > 1 && isBoundary(b.height, c.first) {
		return b.flush()
	}
	return nil
}

func (b *levelBuilder) flush() error {
	if b.empty() {
		return nil
	}
	var data []byte
	if b.height == 0 {
		data = Encode(leafBlock{Version: Version, Entries: b.entries})
	} else {
		data = Encode(innerBlock{Version: Version, Height: b.height, Children: b.children})
	}
	d, err := b.put(data)
	if err != nil {
		return err
	}
	b.out = append(b.out, child{first: b.first, digest: d})
	b.entries, b.children, b.size = b.entries[:0], b.children[:0], 0
	return nil
}

// entrySize is close to the bytes that e takes in a node; what matters is that it depends on e alone and is never
// below the truth, so that a node stays under MaxNodeSize.
func entrySize(e Entry) int {
	n := 80 + len(e.Path) + len(e.Target) + 15*len(e.Runs) + 48*len(e.RunBlocks)
	for k, v := range e.Attrs {
		n += 6 + len(k) + len(v)
	}
	return n
}

// buildUpper builds the levels above the leaves and gives the root.
func buildUpper(leaves []child, put Put) (Digest, error) {
	if len(leaves) == 0 {
		return put(Encode(leafBlock{Version: Version}))
	}
	level := leaves
	for height := uint64(1); len(level) > 1; height++ {
		if height > MaxTreeHeight {
			panic("content: the tree does not get narrower")
		}
		b := levelBuilder{height: height, put: put}
		for _, c := range level {
			if err := b.addChild(c); err != nil {
				return Digest{}, err
			}
		}
		if err := b.flush(); err != nil {
			return Digest{}, err
		}
		level = b.out
	}
	return level[0].digest, nil
}
