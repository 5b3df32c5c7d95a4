package content

import "fmt"

// Outline goes through the metadata blocks of a release from its manifest down, level by level: who has them and who gets them
// agree on the order without a word, so that one request brings what would take one for each level.
type Outline struct {
	queue []outlined
	seen  map[Digest]bool
}

// outlined is a block whose turn comes.
type outlined struct {
	digest Digest
	kind   blockKind
}

// blockKind is what kind of block stands at a place, which tells what it names.
type blockKind uint8

const (
	manifestKind  blockKind = iota
	directoryKind           // root of the segment directory
	pageKind                // of the segment directory
	nodeKind                // of the file tree
	endKind                 // names nothing: tables, run blocks
)

// NewOutline begins at the manifest with this digest.
func NewOutline(manifest Digest) *Outline {
	return &Outline{queue: []outlined{{manifest, manifestKind}}, seen: map[Digest]bool{manifest: true}}
}

// Next moves to the next block; ok is false behind the last. below takes its bytes, if they are here: the blocks that they name
// come behind all others.
func (o *Outline) Next() (d Digest, below func(data []byte) error, ok bool) {
	if len(o.queue) == 0 {
		return Digest{}, nil, false
	}
	at := o.queue[0]
	o.queue = o.queue[1:]
	return at.digest, func(data []byte) error { return o.add(at.kind, data) }, true
}

// add puts what a block names at the end of the queue.
func (o *Outline) add(kind blockKind, data []byte) error {
	switch kind {
	case manifestKind:
		m, err := DecodeManifest(data)
		if err != nil {
			return err
		}
		o.push(directoryKind, m.Directory)
		o.push(nodeKind, m.Tree)
	case directoryKind:
		_, pages, err := DecodeDirectory(data)
		if err != nil {
			return err
		}
		o.push(pageKind, pages...)
	case pageKind:
		_, infos, err := DecodePage(data)
		if err != nil {
			return err
		}
		for _, s := range infos {
			if !s.Retired() {
				o.push(endKind, s.Table)
			}
		}
	case nodeKind:
		return o.addNode(data)
	}
	return nil
}

func (o *Outline) addNode(data []byte) error {
	n, err := decodeNode(data)
	if err != nil {
		return fmt.Errorf("outline: %w", err)
	}
	for _, c := range n.children {
		o.push(nodeKind, c.digest)
	}
	for _, e := range n.entries {
		o.push(endKind, e.RunBlocks...)
	}
	return nil
}

func (o *Outline) push(kind blockKind, digests ...Digest) {
	for _, d := range digests {
		if !o.seen[d] {
			o.seen[d] = true
			o.queue = append(o.queue, outlined{d, kind})
		}
	}
}
