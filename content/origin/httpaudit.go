package origin

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"
)

// A change that keeps the rounded size, and the time to the minute because a program sets the time back, is on no index page. So every
// file is asked for once a day, a share of them at a time, and compared with what the server said the day before. Of that there is a
// print of six bytes in the memo of the directory.

const (
	// auditDay is how long it takes to come to every file.
	auditDay = 24 * time.Hour
	// auditStep is how long an audit waits for the next: each one makes a new memo, and that is written with the whole listing.
	auditStep = time.Hour
	// auditMost is how many files a listing asks for because of it at most: a twenty-fourth of 120,000. Larger sites take longer than a
	// day.
	auditMost = 5000
	// auditSlots is how finely the day is cut.
	auditSlots = 1 << 16

	memoAudit  = "audit"
	memoPrints = "prints " // and the path of a directory
)

// audit is which files a listing asks for: those whose slot is one of width from from on.
type audit struct{ from, width uint32 }

// nextAudit reads the memo of the last listing, and gives that of this one, but for the number of files, which is to be appended. It
// is "" if all stays as it is.
func nextAudit(memo string, now time.Time) (a audit, next string) {
	var last, files int64
	if n, err := fmt.Sscan(memo, &a.from, &last, &files); n != 3 || err != nil {
		return audit{}, fmt.Sprintf("0 %d ", now.Unix())
	}
	since := now.Sub(time.Unix(last, 0))
	if since < 0 {
		since = auditStep // the clock has been set back
	}
	if since < auditStep {
		return audit{}, ""
	}
	share := min(since.Seconds()/auditDay.Seconds(), 1)
	if files > auditMost {
		share = min(share, auditMost/float64(files))
	}
	a.from %= auditSlots
	a.width = uint32(share * auditSlots)
	return a, fmt.Sprintf("%d %d ", (a.from+a.width)%auditSlots, now.Unix())
}

// due reports whether the audit has come to a path.
func (a audit) due(p string) bool {
	return (hash32(p)+auditSlots-a.from)%auditSlots < a.width
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// prints are what the server has said of files of a directory: of a name with the text of its row, what it answered.
type prints map[uint32]uint16

const printSize = 6

// encode gives them in order.
func (p prints) encode() string {
	b := make([]byte, 0, printSize*len(p))
	for _, key := range slices.Sorted(maps.Keys(p)) {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, key), p[key])
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// decodePrints is the reverse of encode. What is none counts as nothing.
func decodePrints(s string) prints {
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	p := prints{}
	for ; len(b) >= printSize; b = b[printSize:] {
		p[binary.BigEndian.Uint32(b)] = binary.BigEndian.Uint16(b[4:])
	}
	return p
}

func (q *question) printKey() uint32 { return hash32(q.row.name + "\n" + q.row.text) }

// keepPrint takes over what is known of a file that looks unchanged, and reports whether the audit has come to it.
func (s *sheet) keepPrint(q *question) bool {
	if print, ok := s.prints[q.printKey()]; ok {
		s.kept[q.printKey()] = print
	}
	return s.w.audit.due(s.entryPath(*q))
}

// audit compares an answer with what was known of the file. One that differs goes into the stamp, which is another one then.
func (s *sheet) audit(q *question, a answer) {
	e := &s.entries[q.index]
	a.date = time.Time{} // however young: it changes the stamp only once
	said := a.stamp()
	if said == "" {
		said = fmt.Sprintf("%s%d", stampAsked, a.size)
	}
	if text, asked, ok := strings.Cut(e.Stamp, stampAsked); ok {
		if stampAsked+asked != said {
			e.Stamp = text + said
			s.asked = s.date.Unix()
		}
		return
	}
	key, print := q.printKey(), uint16(hash32(said))
	if was, ok := s.kept[key]; ok && was != print {
		e.Stamp += said
		s.asked = s.date.Unix()
	}
	s.kept[key] = print
}
