// Command rot flips single bits in what a mirror keeps of a collection, as a disk does that goes bad, and says how many
// chunks and metadata blocks it hit: what a scrub has to find.
//
//	rot -dir HOME/collections/ID -seed 1 -chunks 900 -blocks 100
//
// It reads the metadata from a copy that was made before anything was flipped (-pack), so it can be run again and again.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"swarmnode/content"
	"swarmnode/content/store"
)

func main() {
	dir := flag.String("dir", "", "directory of the collection")
	copied := flag.String("pack", "", "copy of its metadata.pack from before; made if it is not there")
	seed := flag.Uint64("seed", 1, "of the places")
	chunks := flag.Int("chunks", 0, "bits to flip in segment files")
	blocks := flag.Int("blocks", 0, "bits to flip in metadata blocks")
	flag.Parse()
	if err := rot(*dir, *copied, rand.New(rand.NewPCG(*seed, 0)), *chunks, *blocks); err != nil {
		fmt.Fprintln(os.Stderr, "rot:", err)
		os.Exit(1)
	}
}

// extent is a piece of a file that has a hash.
type extent struct {
	path     string
	at, size int64
}

func rot(dir, copied string, rng *rand.Rand, chunks, blocks int) error {
	live := filepath.Join(dir, "metadata.pack")
	if _, err := os.Stat(copied); err != nil {
		raw, err := os.ReadFile(live)
		if err != nil {
			return err
		}
		if err := os.WriteFile(copied, raw, 0o600); err != nil {
			return err
		}
	}
	inChunks, inBlocks, err := extents(dir, copied, live)
	if err != nil {
		return err
	}
	hitChunks, err := flip(rng, inChunks, chunks)
	if err != nil {
		return err
	}
	hitBlocks, err := flip(rng, inBlocks, blocks)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int{"flips": chunks + blocks, "chunks": hitChunks, "blocks": hitBlocks})
}

// extents finds the chunks in the segment files and the blocks in the pack.
func extents(dir, copied, live string) (chunks, blocks []extent, err error) {
	raw, err := os.ReadFile(copied)
	if err != nil {
		return nil, nil, err
	}
	scratch := copied + ".scratch" // opening a pack writes to it
	if err := os.WriteFile(scratch, raw, 0o600); err != nil {
		return nil, nil, err
	}
	defer os.Remove(scratch)
	pack, err := store.OpenPack(scratch)
	if err != nil {
		return nil, nil, err
	}
	defer pack.Close()
	const header, head = 8, 44 // see content/store/pack.go
	at := int64(header)
	for _, d := range pack.Digests() {
		data, ok := pack.Block(d)
		if !ok {
			return nil, nil, fmt.Errorf("block %s of the copy is damaged", d.BlockCID())
		}
		blocks = append(blocks, extent{live, at + head, int64(len(data))})
		at += head + int64(len(data))
		path := filepath.Join(dir, "segments", "segments", d.BlockCID().String())
		if _, err := os.Stat(path); err != nil {
			continue
		}
		table, err := content.DecodeTable(data)
		if err != nil {
			return nil, nil, err
		}
		for i := range table.Len() {
			chunks = append(chunks, extent{path, int64(table.Offset(i)), int64(table.Chunk(i).Size)})
		}
	}
	return chunks, blocks, nil
}

// flip flips n different bits, each at a place drawn from all bytes, and says how many extents were hit.
func flip(rng *rand.Rand, in []extent, n int) (hit int, err error) {
	var ends []int64
	var total int64
	for _, e := range in {
		total += e.size
		ends = append(ends, total)
	}
	if n > 0 && total*8 < int64(n) {
		return 0, fmt.Errorf("%d bytes for %d flips", total, n)
	}
	done, extents := map[int64]bool{}, map[int]bool{}
	for len(done) < n {
		bit := rng.Int64N(total * 8)
		if done[bit] {
			continue
		}
		done[bit] = true
		i, exact := slices.BinarySearch(ends, bit/8)
		if exact {
			i++
		}
		extents[i] = true
		if err := flipBit(in[i].path, in[i].at+bit/8-(ends[i]-in[i].size), byte(1)<<(bit%8)); err != nil {
			return 0, err
		}
	}
	return len(extents), nil
}

func flipBit(path string, at int64, mask byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
		return err
	}
	b[0] ^= mask
	_, err = f.WriteAt(b, at)
	return err
}
