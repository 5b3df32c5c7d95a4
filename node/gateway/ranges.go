package gateway

import (
	"fmt"
	"strconv"
	"strings"
)

// maxRanges is how many ranges of one request are answered: zchunk asks for up to 256 at once. A request for more gets the whole file.
const maxRanges = 256

// byteRange is bytes from up to before to.
type byteRange struct{ from, to int64 }

// contentRange is the value of Content-Range.
func (b byteRange) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", b.from, b.to-1, size)
}

// parseRanges reads a Range header for a file of size bytes (RFC 9110, section 14). whole means that the whole file is the answer:
// there is no header, it has another unit or is malformed, it asks for too many parts or for more bytes than the file has. No ranges
// and not whole means that nothing asked for exists: 416.
func parseRanges(header []string, size int64) (ranges []byteRange, whole bool) {
	if len(header) != 1 || size == 0 {
		return nil, true
	}
	unit, list, ok := strings.Cut(header[0], "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.Count(list, ",") >= 2*maxRanges {
		return nil, true
	}
	var asked, sum int64
	for spec := range strings.SplitSeq(list, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // the grammar of lists allows empty elements
		}
		b, exists, ok := parseRange(spec, size)
		if asked++; !ok || asked > maxRanges {
			return nil, true
		}
		if exists {
			if b.to-b.from > size-sum {
				return nil, true // they overlap: the file is less than what they add up to
			}
			ranges = append(ranges, b)
			sum += b.to - b.from
		}
	}
	return ranges, asked == 0
}

// parseRange reads one range: N-, N-M or -N. exists is false when none of it is in the file; ok is false when it is malformed.
func parseRange(spec string, size int64) (b byteRange, exists, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	first, last = strings.TrimRight(first, " \t"), strings.TrimLeft(last, " \t")
	if !ok {
		return b, false, false
	}
	if first == "" {
		n, ok := parsePosition(last)
		n = min(n, size)
		return byteRange{size - n, size}, n > 0, ok
	}
	from, ok := parsePosition(first)
	if !ok {
		return b, false, false
	}
	to := size
	if last != "" {
		end, ok := parsePosition(last)
		if !ok || end < from {
			return b, false, false
		}
		if end < size {
			to = end + 1
		}
	}
	return byteRange{from, to}, from < size, true
}

// parsePosition reads a number of digits only. One that is too large is as good as the largest.
func parsePosition(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 1<<63 - 1, true
	}
	return int64(n), true
}

// parts is the frame of a multipart/byteranges body: what stands before each part and at the end.
type parts struct {
	boundary string
	heads    []string
	end      string
}

// newParts makes the frame for these ranges. The body begins with CRLF, as the grammar of multipart has it for every boundary: zsync
// 0.6.2 finds no part otherwise and asks for ever.
func newParts(boundary, ctype string, ranges []byteRange, size int64) parts {
	p := parts{boundary: boundary, end: "\r\n--" + boundary + "--\r\n"}
	for _, b := range ranges {
		p.heads = append(p.heads, "\r\n--"+boundary+"\r\nContent-Type: "+ctype+"\r\nContent-Range: "+b.contentRange(size)+"\r\n\r\n")
	}
	return p
}

// length is how many bytes the body has.
func (p parts) length(ranges []byteRange) int64 {
	n := int64(len(p.end))
	for i, b := range ranges {
		n += int64(len(p.heads[i])) + b.to - b.from
	}
	return n
}
