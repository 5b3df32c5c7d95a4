// Package chunker cuts a stream into chunks. Which of the three rules applies follows from a file's name and size
// alone, and [Params] say how each rule cuts; both are recorded in the manifest so that a publisher keeps cutting
// the same way. Tables carry explicit lengths: only a publisher ever runs this code.
//
// The content-defined rule is JC (Jin et al., "Accelerating content-defined chunking by jumping", IEEE TPDS 2023)
// as the library github.com/PlakarKorp/go-cdc-chunkers versions it; golden cut points in a test pin it.
package chunker

import (
	"errors"
	"fmt"
	"io"
	"strings"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/jc"
)

const (
	// Version is the version of [Params] that this code writes and understands.
	Version = 1
	// JC is the one content-defined algorithm that this code knows, by its name and version in the library.
	JC = "jc-v1.0.0"
	// MaxSize is the largest chunk in bytes, whatever the rule: content.MaxChunkSize.
	MaxSize = 1 << 20
	// minSize is the smallest size that the library takes for any of its limits, in bytes.
	minSize = 64
	// maxSuffixes and maxSuffix bound [Params.Compressed].
	maxSuffixes, maxSuffix = 256, 32
)

// Rule is how one file is cut.
type Rule uint8

// The rules. Whole keeps a file as one chunk, Fixed cuts every Params.Fixed bytes, CDC cuts where the content says.
const (
	Whole Rule = iota
	Fixed
	CDC
)

// String names the rule.
func (r Rule) String() string {
	switch r {
	case Whole:
		return "whole"
	case Fixed:
		return "fixed"
	case CDC:
		return "cdc"
	}
	return fmt.Sprintf("rule %d", uint8(r))
}

// Params are the sizes, in bytes, and the names that the rules go by. Changing them changes the chunks of files that
// did not change, which costs every mirror a re-transfer.
type Params struct {
	Version    uint64   `cbor:"v"`
	CDC        string   `cbor:"cdc"`        // algorithm and version, [JC]
	Min        uint32   `cbor:"min"`        // CDC: no chunk but the last of a file is smaller
	Avg        uint32   `cbor:"avg"`        // CDC: what chunks of random data aim at
	Max        uint32   `cbor:"max"`        // CDC: no chunk is larger
	Fixed      uint32   `cbor:"fixed"`      // Fixed: the size of every chunk but the last; also the largest Whole file
	Compressed []string `cbor:"compressed"` // suffixes, with the dot, lower case, of names that are cut at Fixed
}

// Default gives the parameters of a new collection. The sizes come from measurements on ISO images, source tars and
// package archives (DESIGN section 4).
func Default() Params {
	return Params{
		Version: Version, CDC: JC, Min: 64 << 10, Avg: 256 << 10, Max: MaxSize, Fixed: MaxSize,
		Compressed: []string{
			".7z", ".apk", ".avif", ".br", ".bz2", ".crate", ".deb", ".docx", ".drpm", ".epub", ".flac", ".gif", ".gz", ".jar",
			".jpeg", ".jpg", ".lz", ".lz4", ".lzma", ".m4a", ".mkv", ".mov", ".mp3", ".mp4", ".odt", ".ogg", ".opus", ".png",
			".rpm", ".tbz", ".tgz", ".txz", ".udeb", ".webm", ".webp", ".whl", ".xz", ".zip", ".zst",
		},
	}
}

// ErrParams is the cause of every refusal of parameters.
var ErrParams = errors.New("chunking parameters")

// Check refuses parameters that this code cannot cut by.
func (p Params) Check() error {
	switch {
	case p.Version != Version:
		return fmt.Errorf("%w of version %d, this program knows %d", ErrParams, p.Version, Version)
	case p.CDC != JC:
		return fmt.Errorf("%w: algorithm %.64q, this program knows %s", ErrParams, p.CDC, JC)
	case p.Min < minSize || p.Min >= p.Avg || p.Avg >= p.Max || p.Max > MaxSize:
		return fmt.Errorf("%w: sizes %d, %d, %d are not %d <= min < average < max <= %d", ErrParams, p.Min, p.Avg, p.Max, minSize, MaxSize)
	case p.Fixed < minSize || p.Fixed > MaxSize:
		return fmt.Errorf("%w: fixed size %d is not in %d to %d", ErrParams, p.Fixed, minSize, MaxSize)
	case len(p.Compressed) > maxSuffixes:
		return fmt.Errorf("%w: %d suffixes, at most %d are allowed", ErrParams, len(p.Compressed), maxSuffixes)
	}
	for _, s := range p.Compressed {
		if len(s) < 2 || len(s) > maxSuffix || s[0] != '.' || s != strings.ToLower(s) {
			return fmt.Errorf("%w: suffix %.64q (they begin with a dot and are lower case)", ErrParams, s)
		}
	}
	return nil
}

// Rule says how the file of this name and size in bytes is cut.
func (p Params) Rule(path string, size int64) Rule {
	if size <= int64(p.Fixed) {
		return Whole
	}
	name := strings.ToLower(path[strings.LastIndexByte(path, '/')+1:])
	for _, s := range p.Compressed {
		if strings.HasSuffix(name, s) {
			return Fixed
		}
	}
	return CDC
}

// Cutter finds the ends of chunks in data that its caller holds. It keeps no state between calls and may be shared.
type Cutter struct {
	rule  Rule
	fixed int
	opts  *chunkers.ChunkerOpts
	jc    *jc.JC // its zero value is "jc-v1.0.0"; a test compares it with the library's
}

// Cutter makes the cutter for a rule. It panics on parameters that [Params.Check] refuses.
func (p Params) Cutter(rule Rule) *Cutter {
	if err := p.Check(); err != nil {
		panic("chunker: " + err.Error())
	}
	c := &Cutter{rule: rule, fixed: int(p.Fixed)}
	if rule == CDC {
		c.opts = &chunkers.ChunkerOpts{MinSize: int(p.Min), NormalSize: int(p.Avg), MaxSize: int(p.Max)}
		c.jc = new(jc.JC)
		if err := c.jc.Setup(c.opts); err != nil {
			panic("chunker: " + err.Error()) // only a key can be refused, and there is none
		}
	}
	return c
}

// Next gives the length of the chunk that begins with data: 0 if that takes more data than there is here, which
// never happens with data of [MaxSize] bytes or with last, which says that the file ends with data.
func (c *Cutter) Next(data []byte, last bool) int {
	if c.rule != CDC {
		if len(data) >= c.fixed || last {
			return min(len(data), c.fixed)
		}
		return 0
	}
	if last || len(data) >= c.opts.MaxSize {
		return c.jc.Algorithm(c.opts, data, len(data))
	}
	// A cut inside of the data stays where it is however much follows; no cut means nothing yet.
	if len(data) > c.opts.NormalSize {
		if n := c.jc.Algorithm(c.opts, data, len(data)); n < len(data) {
			return n
		}
	}
	return 0
}

// Split reads r to its end and hands its chunks to emit, which must not keep the slice. size is how many bytes are
// expected; it only sizes the buffer. An empty stream has no chunks. Errors are those of r and emit.
func (p Params) Split(r io.Reader, rule Rule, size int64, emit func(chunk []byte) error) error {
	c := p.Cutter(rule)
	buf := make([]byte, max(min(size+1, 2*MaxSize), minSize))
	held, last := 0, false
	for !last {
		if held == len(buf) { // only when the stream is longer than it should be
			buf = append(buf, make([]byte, len(buf))...)
		}
		for held < len(buf) && !last {
			n, err := r.Read(buf[held:])
			held += n
			if err != nil && err != io.EOF {
				return err
			}
			last = err == io.EOF
		}
		at := 0
		for at < held {
			n := c.Next(buf[at:held], last)
			if n == 0 {
				break
			}
			if err := emit(buf[at : at+n]); err != nil {
				return err
			}
			at += n
		}
		held = copy(buf, buf[at:held])
	}
	return nil
}
