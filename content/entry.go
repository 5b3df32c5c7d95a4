package content

import (
	"errors"
	"fmt"
	"math"
)

// The kinds of an entry, in the high bits of its mode; the values are those of POSIX's st_mode.
const (
	ModeFile uint32 = 0o100000
	ModeDir  uint32 = 0o040000
	ModeLink uint32 = 0o120000

	modeKind  uint32 = 0o170000
	modePerms uint32 = 0o777
)

// ErrNoEntry says that a path is not in the tree.
var ErrNoEntry = errors.New("no such path in the release")

// Entry is a file, directory or symlink of a release.
type Entry struct {
	Path      string   // relative, parts separated by '/'
	Mode      uint32   // kind and permission bits
	Size      uint64   // bytes of a file, else 0
	Mtime     int64    // Unix seconds of a file or symlink; 0 for a directory
	Target    string   // of a symlink
	SHA256    Digest   // of the whole file
	Runs      []Run    // the chunks of a file in order, if there are at most MaxInlineRuns
	RunBlocks []Digest // else the blocks that hold the runs
	Attrs     Attributes
}

// IsFile reports whether e is a regular file.
func (e Entry) IsFile() bool { return e.Mode&modeKind == ModeFile }

// IsDir reports whether e is a directory.
func (e Entry) IsDir() bool { return e.Mode&modeKind == ModeDir }

// IsLink reports whether e is a symlink.
func (e Entry) IsLink() bool { return e.Mode&modeKind == ModeLink }

// Perm is the permission bits of e.
func (e Entry) Perm() uint32 { return e.Mode & modePerms }

// entryBlock is the encoded form of an Entry.
type entryBlock struct {
	_         struct{} `cbor:",toarray"`
	Path      string
	Mode      uint32
	Size      uint64
	Mtime     int64
	Target    string
	SHA256    []byte
	Runs      []uint32
	RunBlocks []Link
	Attrs     Attributes
}

func (e Entry) block() entryBlock {
	b := entryBlock{Path: e.Path, Mode: e.Mode, Size: e.Size, Mtime: e.Mtime, Target: e.Target, Runs: flatten(e.Runs), Attrs: e.Attrs}
	if !e.SHA256.IsZero() {
		b.SHA256 = e.SHA256[:]
	}
	for _, d := range e.RunBlocks {
		b.RunBlocks = append(b.RunBlocks, Link(d))
	}
	return b
}

func (b entryBlock) entry() (Entry, error) {
	e := Entry{Path: b.Path, Mode: b.Mode, Size: b.Size, Mtime: b.Mtime, Target: b.Target}
	if len(b.Attrs) > 0 {
		e.Attrs = b.Attrs
	}
	switch len(b.SHA256) {
	case 0:
	case len(Digest{}):
		e.SHA256 = Digest(b.SHA256)
	default:
		return e, fmt.Errorf("%w: %q has a digest of %d bytes", ErrFormat, b.Path, len(b.SHA256))
	}
	runs, err := unflatten(b.Runs, MaxInlineRuns)
	if err != nil {
		return e, err
	}
	e.Runs = runs
	for _, l := range b.RunBlocks {
		e.RunBlocks = append(e.RunBlocks, Digest(l))
	}
	return e, e.Check()
}

// Check refuses an entry that breaks a rule of the format.
func (e Entry) Check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	if err := e.Attrs.check(); err != nil {
		return err
	}
	chunks := len(e.Runs) + len(e.RunBlocks)
	bad := func(why string) error { return fmt.Errorf("%w: entry %q: %s", ErrFormat, e.Path, why) }
	switch {
	case e.Mode&^(modeKind|modePerms) != 0:
		return bad("unknown mode bits")
	case !e.IsLink() && e.Target != "":
		return bad("only a symlink has a target")
	case !e.IsFile() && (e.Size != 0 || chunks != 0 || !e.SHA256.IsZero()):
		return bad("only a file has content")
	case e.IsDir() && e.Mtime != 0:
		return bad("a directory has no time of its own")
	case len(e.Runs) != 0 && len(e.RunBlocks) != 0 || len(e.RunBlocks) > MaxRunBlocks || len(e.Runs) > MaxInlineRuns:
		return bad("too many runs")
	case e.Size > math.MaxInt64:
		return bad("size")
	}
	switch e.Mode & modeKind {
	case ModeFile:
		if (e.Size == 0) != (chunks == 0) || e.SHA256.IsZero() {
			return bad("a file has chunks if it has bytes, and always a digest")
		}
	case ModeDir:
	case ModeLink:
		return CheckTarget(e.Path, e.Target)
	default:
		return bad("unknown kind")
	}
	return nil
}

// flatten packs runs for encoding: three numbers each.
func flatten(runs []Run) []uint32 {
	out := make([]uint32, 0, 3*len(runs))
	for _, r := range runs {
		out = append(out, r.Segment, r.First, r.Count)
	}
	return out
}

func unflatten(nums []uint32, limit int) ([]Run, error) {
	if len(nums)%3 != 0 || len(nums) > 3*limit {
		return nil, fmt.Errorf("%w: %d numbers are not at most %d runs", ErrFormat, len(nums), limit)
	}
	if len(nums) == 0 {
		return nil, nil
	}
	runs := make([]Run, 0, len(nums)/3)
	for i := 0; i < len(nums); i += 3 {
		r := Run{Segment: nums[i], First: nums[i+1], Count: nums[i+2]}
		if err := r.check(); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// check refuses a run outside of what a segment can hold.
func (r Run) check() error {
	if r.Segment >= MaxSegments || r.Count == 0 || r.Count > MaxSegmentChunks || r.First > MaxSegmentChunks-r.Count {
		return fmt.Errorf("%w: run of %d chunks from %d in segment %d", ErrFormat, r.Count, r.First, r.Segment)
	}
	return nil
}

// AppendRef adds a chunk to the end of runs, lengthening the last run where it can.
func AppendRef(runs []Run, r Ref) []Run {
	if n := len(runs); n > 0 {
		if last := &runs[n-1]; last.Segment == r.Segment && last.First+last.Count == r.Index {
			last.Count++
			return runs
		}
	}
	return append(runs, Run{Segment: r.Segment, First: r.Index, Count: 1})
}

type runBlock struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Runs    []uint32
}

// SetRuns gives e its chunks, in blocks of their own if there are too many runs for an entry.
func (e *Entry) SetRuns(runs []Run, put Put) error {
	e.Runs, e.RunBlocks = nil, nil
	if len(runs) <= MaxInlineRuns {
		e.Runs = runs
		return nil
	}
	if len(runs) > MaxRunBlocks*MaxRunsPerBlock {
		return fmt.Errorf("%q is spread over %d runs of chunks, at most %d are possible", e.Path, len(runs), MaxRunBlocks*MaxRunsPerBlock)
	}
	for len(runs) > 0 {
		n := min(len(runs), MaxRunsPerBlock)
		d, err := put(Encode(runBlock{Version: Version, Runs: flatten(runs[:n])}))
		if err != nil {
			return err
		}
		e.RunBlocks, runs = append(e.RunBlocks, d), runs[n:]
	}
	return nil
}

// EntryRuns gives all runs of e in order, also those in blocks of their own, or a *[Missing] with all blocks needed.
func EntryRuns(e Entry, src BlockSource) ([]Run, error) {
	if len(e.RunBlocks) == 0 {
		return e.Runs, nil
	}
	var missing Missing
	var runs []Run
	for _, d := range e.RunBlocks {
		data, ok := src.Block(d)
		if !ok {
			missing.Blocks = append(missing.Blocks, d)
			continue
		}
		part, err := DecodeRuns(data)
		if err != nil {
			return nil, fmt.Errorf("chunks of %q: %w", e.Path, err)
		}
		runs = append(runs, part...)
	}
	if len(missing.Blocks) > 0 {
		return nil, &missing
	}
	return runs, nil
}

// DecodeRuns reads a block of runs.
func DecodeRuns(data []byte) ([]Run, error) {
	var b runBlock
	if err := Decode(data, MaxBlockSize, &b); err != nil {
		return nil, fmt.Errorf("run block: %w", err)
	}
	if err := checkVersion(b.Version); err != nil {
		return nil, fmt.Errorf("run block: %w", err)
	}
	return unflatten(b.Runs, MaxRunsPerBlock)
}
