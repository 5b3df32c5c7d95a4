package p2p

import (
	"encoding/binary"
	"fmt"
	"io"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// A request is a length (4 bytes, big-endian) and that many bytes of strict CBOR. An answer is a sequence of parts:
// a status byte, a number (4 bytes, big-endian) and, for statusOK, that many bytes of data.
type status byte

const (
	statusOK        status = 1 // the number is the length of the data that follows
	statusNotHere   status = 2 // the number is 0
	statusBusy      status = 3 // the number is milliseconds until it makes sense to ask again; ends the answer
	statusCut       status = 4 // a limit is reached, the rest can be asked for at once; ends the answer
	statusKeepAlive status = 5 // holdings only: nothing new, still alive
)

const (
	partHeader = 5
	// maxRetryMillis bounds what a busy peer can tell us: ten minutes.
	maxRetryMillis = 10 * 60 * 1000
	// The caps of the requests, above their largest encoding.
	maxChunkRequest    = 128
	maxBlockRequest    = 64 + 36*MaxBlocksPerRequest
	maxHoldingsRequest = 64
	maxOutlineRequest  = 128
	// maxRequest is the largest of them.
	maxRequest = maxBlockRequest
)

type chunkRequest struct {
	_          struct{} `cbor:",toarray"`
	Collection []byte
	Segment    uint32
	First      uint32
	Count      uint32
}

type blockRequest struct {
	_          struct{} `cbor:",toarray"`
	Collection []byte
	Digests    []byte // 32 bytes each
}

type outlineRequest struct {
	_          struct{} `cbor:",toarray"`
	Collection []byte
	Manifest   []byte
	Room       uint32 // most bytes of blocks
}

type holdingsRequest struct {
	_          struct{} `cbor:",toarray"`
	Collection []byte
}

// frame puts the length in front of an encoded request.
func frame(v any) []byte {
	body := content.Encode(v)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
}

// readFrame reads a request of at most limit bytes; the limit holds before anything is allocated.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || guard.On(guard.RequestLimit) && uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("%w: request of %d bytes, at most %d are allowed", content.ErrFormat, n, limit)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

func decodeID(b []byte) (content.ID, error) {
	if len(b) != len(content.ID{}) {
		return content.ID{}, fmt.Errorf("%w: collection of %d bytes", content.ErrFormat, len(b))
	}
	return content.ID(b), nil
}

func decodeChunkRequest(b []byte) (content.ID, content.Run, error) {
	var q chunkRequest
	if err := content.Decode(b, maxChunkRequest, &q); err != nil {
		return content.ID{}, content.Run{}, err
	}
	id, err := decodeID(q.Collection)
	if err != nil {
		return content.ID{}, content.Run{}, err
	}
	run := content.Run{Segment: q.Segment, First: q.First, Count: q.Count}
	return id, run, checkRun(run)
}

// checkRun refuses runs that no segment has.
func checkRun(run content.Run) error {
	if guard.On(guard.RunLimit) && run.Segment >= content.MaxSegments || run.Count == 0 || run.Count > content.MaxSegmentChunks ||
		run.First >= content.MaxSegmentChunks || run.First+run.Count > content.MaxSegmentChunks {
		return fmt.Errorf("%w: %d chunks from %d of segment %d", content.ErrFormat, run.Count, run.First, run.Segment)
	}
	return nil
}

func decodeBlockRequest(b []byte) (content.ID, []content.Digest, error) {
	var q blockRequest
	if err := content.Decode(b, maxBlockRequest, &q); err != nil {
		return content.ID{}, nil, err
	}
	id, err := decodeID(q.Collection)
	if err != nil {
		return content.ID{}, nil, err
	}
	n := len(q.Digests) / 32
	if n == 0 || n > MaxBlocksPerRequest || len(q.Digests)%32 != 0 {
		return content.ID{}, nil, fmt.Errorf("%w: %d bytes of digests", content.ErrFormat, len(q.Digests))
	}
	ds := make([]content.Digest, n)
	for i := range ds {
		ds[i] = content.Digest(q.Digests[32*i : 32*i+32])
	}
	return id, ds, nil
}

func decodeOutlineRequest(b []byte) (id content.ID, manifest content.Digest, room uint32, err error) {
	var q outlineRequest
	if err := content.Decode(b, maxOutlineRequest, &q); err != nil {
		return id, manifest, 0, err
	}
	if len(q.Manifest) != len(manifest) || q.Room > MaxOutlineBytes {
		return id, manifest, 0, fmt.Errorf("%w: manifest of %d bytes, room for %d", content.ErrFormat, len(q.Manifest), q.Room)
	}
	id, err = decodeID(q.Collection)
	return id, content.Digest(q.Manifest), q.Room, err
}

func decodeHoldingsRequest(b []byte) (content.ID, error) {
	var q holdingsRequest
	if err := content.Decode(b, maxHoldingsRequest, &q); err != nil {
		return content.ID{}, err
	}
	return decodeID(q.Collection)
}

// putPart writes a part's header into b.
func putPart(b []byte, s status, n uint32) {
	b[0] = byte(s)
	binary.BigEndian.PutUint32(b[1:partHeader], n)
}

// readPart reads a part's header and refuses what no honest peer sends. limit bounds the data of statusOK.
func readPart(r io.Reader, limit uint32) (status, uint32, error) {
	var head [partHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	s, n := status(head[0]), binary.BigEndian.Uint32(head[1:])
	ok := false
	switch s {
	case statusOK:
		ok = n > 0 && (n <= limit || !guard.On(guard.AnswerLimit))
	case statusBusy:
		ok = n <= maxRetryMillis
	case statusNotHere, statusCut, statusKeepAlive:
		ok = n == 0
	}
	if !ok {
		return 0, 0, fmt.Errorf("%w: status %d with %d, at most %d bytes are expected", ErrBadAnswer, s, n, limit)
	}
	return s, n, nil
}
