package content

// The limits of the format, checked by every decoder before it allocates. DESIGN section 4.
const (
	// Version is the format version that this code writes and reads.
	Version = 1

	// MaxChunkSize is the largest chunk, in bytes: one mebibyte.
	MaxChunkSize = 1 << 20
	// MaxSegments is how many segments a collection can ever have: numbers are never used again.
	MaxSegments = 1 << 20
	// MaxSegmentChunks is the most chunks in one segment.
	MaxSegmentChunks = 1 << 15
	// SegmentSize is the size at which a segment is closed, in bytes.
	SegmentSize = 64 << 20
	// MaxSegmentSize is the most bytes in one segment: one more chunk than the size at which it is closed.
	MaxSegmentSize = SegmentSize + MaxChunkSize

	// MaxBlockSize is the largest metadata block of any kind, in bytes.
	MaxBlockSize = 4 << 20
	// MaxNodeSize is the largest node of the file tree, in bytes.
	MaxNodeSize = 64 << 10
	// MaxTreeHeight bounds a walk from the root to a leaf; 2^64 entries would need about 13 levels.
	MaxTreeHeight = 24

	// MaxInlineRuns is how many runs an entry holds before they go to blocks of their own.
	MaxInlineRuns = 100
	// MaxRunsPerBlock is how many runs one such block holds.
	MaxRunsPerBlock = 1 << 16
	// MaxRunBlocks is how many such blocks a file can have: 4 million runs.
	MaxRunBlocks = 64

	// MaxName is the longest part of a path, in bytes.
	MaxName = 255
	// MaxPath is the longest path, in bytes.
	MaxPath = 4096
	// MaxDepth is the most parts of a path.
	MaxDepth = 64

	// MaxAttributes is how many optional attributes an entry or a root can have.
	MaxAttributes = 16
	// MaxAttributeSize is the most bytes of one attribute's value.
	MaxAttributeSize = 1024

	// MaxDeltaParts is how many blocks the delta of a release can have; a larger change has no delta, and the
	// changed tree nodes are fetched instead.
	MaxDeltaParts = 64
	// deltaPartSize is the size at which a part of a delta is closed, in bytes.
	deltaPartSize = 256 << 10
)
