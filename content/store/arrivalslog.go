package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"swarmnode/content"
)

// The log of a segment that no release has: a header, and a record of digest, size and CRC-32C for each chunk in order; one that is
// all zeros says that the segment is closed. The checksum covers the segment's and the chunk's number too, so that no record counts
// where it does not belong. What is behind the first record that does not count is cut off.
const (
	arrivalsHeader = "swarma1\n"
	arrivalRecord  = len(content.Digest{}) + 4 + 4
)

// appendArrival adds the record of chunk i to b.
func appendArrival(b []byte, number uint32, i int, c content.Chunk) []byte {
	at := len(b)
	b = append(b, c.Digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, c.Size)
	return binary.LittleEndian.AppendUint32(b, arrivalSum(number, i, b[at:]))
}

func arrivalSum(number uint32, i int, rec []byte) uint32 {
	var place [8]byte
	binary.LittleEndian.PutUint32(place[:], number)
	binary.LittleEndian.PutUint32(place[4:], uint32(i))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, rec)
}

// parseArrivals gives the chunks that a log lists, and whether it says that there are no more.
func parseArrivals(number uint32, data []byte) (chunks []content.Chunk, end bool) {
	if len(data) < len(arrivalsHeader) || string(data[:len(arrivalsHeader)]) != arrivalsHeader {
		return nil, false
	}
	size := int64(0)
	for data = data[len(arrivalsHeader):]; len(data) >= arrivalRecord && !end; data = data[arrivalRecord:] {
		rec := data[:arrivalRecord]
		if binary.LittleEndian.Uint32(rec[arrivalRecord-4:]) != arrivalSum(number, len(chunks), rec[:arrivalRecord-4]) {
			break
		}
		c := content.Chunk{Digest: content.Digest(rec[:32]), Size: binary.LittleEndian.Uint32(rec[32:])}
		size += int64(c.Size)
		switch {
		case c == content.Chunk{}:
			end = true
			continue
		case c.Size == 0, c.Size > content.MaxChunkSize, size > content.MaxSegmentSize, len(chunks) == content.MaxSegmentChunks:
			return chunks, false
		}
		chunks = append(chunks, c)
	}
	return chunks, end
}

// readLog reads the log of a segment; without one there are no chunks.
func (a *Arrivals) readLog(number uint32) (chunks []content.Chunk, end bool, err error) {
	data, err := os.ReadFile(a.path(logFile(number)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if len(data) >= len(arrivalsHeader) && otherVersion(string(data[:len(arrivalsHeader)]), arrivalsHeader) {
		return nil, false, fmt.Errorf("%s: its format is that of another version: use the swarmnode that wrote it", a.path(logFile(number)))
	}
	chunks, end = parseArrivals(number, data)
	return chunks, end, nil
}

// rewriteLog makes a new log of what counts, and its name and that of the segment durable.
func (a *Arrivals) rewriteLog(s *arriving) (err error) {
	if s.log != nil {
		s.log.Close() // replaced: nothing in it counts any more
	}
	name := a.path(logFile(s.number))
	if s.log, err = a.cfg.FS.OpenFile(name+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return err
	}
	all := []byte(arrivalsHeader)
	for i, c := range s.chunks[:s.logged] {
		all = appendArrival(all, s.number, i, c)
	}
	if s.marked {
		all = appendArrival(all, s.number, s.logged, content.Chunk{})
	}
	if _, err = a.cfg.FS.WriteAt(s.log, all, 0); err == nil {
		err = a.cfg.FS.SyncData(s.log)
	}
	if err == nil {
		err = a.cfg.FS.Rename(name+newSuffix, name)
	}
	if err != nil {
		return err
	}
	return syncDir(a.cfg.FS, a.dir)
}

// appendLog says durably what the segment has. Its bytes are durable.
func (a *Arrivals) appendLog(s *arriving) error {
	var recs []byte
	for i := s.logged; i < len(s.chunks); i++ {
		recs = appendArrival(recs, s.number, i, s.chunks[i])
	}
	if s.end {
		recs = appendArrival(recs, s.number, len(s.chunks), content.Chunk{})
	}
	if _, err := a.cfg.FS.WriteAt(s.log, recs, int64(len(arrivalsHeader)+s.logged*arrivalRecord)); err != nil {
		return err
	}
	if err := a.cfg.FS.SyncData(s.log); err != nil {
		return err
	}
	s.logged, s.marked = len(s.chunks), s.end
	return nil
}
