package origin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// sftpSlack is how much longer than twice what was asked for an answer may be: the heads of parts that are as short as a server makes
// them, and what is said beside.
const sftpSlack = 1 << 20

// grant is what a server may take for an answer.
type grant struct {
	bytes int64
	least int          // bytes a second
	over  string       // what is to be said if more come
	wait  func() error // called when aheadPage of it has come; nil: it may go on
}

// sftpListing is for listings, of at most maxRows names.
func sftpListing(wait func() error) grant {
	return grant{MaxDirectoryBytes, slowestList, fmt.Sprintf("the server lists more than %d MiB, or %d names, in one directory: --exclude it", MaxDirectoryBytes>>20, maxRows), wait}
}

// sftpReading is for n bytes of a file.
func sftpReading(n int64) grant {
	return grant{2*n + sftpSlack, slowest, fmt.Sprintf("the server answers with more than twice the %d bytes that were asked for: rsync+ssh://, if it has that, may do", n), nil}
}

// meter counts what comes, and winds up the timer that waits for it.
type meter struct {
	io.Reader
	kill    func()      // ends the connection: what is being written to it holds up who would close it
	mu      sync.Mutex  // guards all below
	timer   *time.Timer // nil while nothing is waited for
	timeout time.Duration
	grant
	came  int64
	names sftpNames
	since time.Time // of the last byte
	slow  error     // what is to be said if too little came
	pace
}

// errMeter ends a channel on which too much came.
var errMeter = errors.New("the answer is too long")

func (m *meter) begin(g grant, timer *time.Timer, timeout time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grant, m.timer, m.timeout = g, timer, timeout
	m.came, m.names.count, m.since, m.slow = 0, 0, time.Now(), nil
	m.pace = pace{waited: -timeout} // several answers may come, each after as long as it may take
}

// end reports whether too much has come, or too little.
func (m *meter) end() (over bool, slow error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.timer.Stop()
	m.timer = nil
	return m.tooMuch(), m.slow
}

// tooMuch reports whether more has come than is granted. The caller holds mu.
func (m *meter) tooMuch() bool { return m.came > m.bytes || m.names.count > maxRows }

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names.take(p[:n])
	if m.timer == nil {
		return n, err
	}
	if m.came += int64(n); m.tooMuch() {
		m.kill()
		return 0, errMeter
	}
	took := time.Since(m.since)
	m.since = m.since.Add(took)
	if err == nil {
		m.slow = m.check(n, took, m.timeout, m.least)
	}
	if m.slow != nil {
		m.kill()
		return 0, m.slow
	}
	if n == 0 || !m.timer.Stop() {
		return n, err
	}
	if wait := m.wait; wait != nil && m.came > aheadPage {
		m.wait = nil
		m.mu.Unlock()
		werr := wait()
		m.mu.Lock()
		if m.since = time.Now(); m.timer == nil || werr != nil {
			return n, errors.Join(err, werr)
		}
	}
	m.timer.Reset(m.timeout)
	return n, err
}

// sftpNames counts the names in what a server sends: the library gives them when all have come, and those without anything are a tenth
// as long as they are in memory.
type sftpNames struct {
	head  []byte // of the packet: its length, its kind, the number of the request, and how many names
	left  uint32 // bytes of it to come
	count int64
}

// sftpName is the kind of a packet of names, SSH_FXP_NAME of draft-ietf-secsh-filexfer-02.
const sftpName = 104

// take goes on where it was.
func (s *sftpNames) take(p []byte) {
	for len(p) > 0 {
		switch have := len(s.head); {
		case have < 4:
			s.head, p = append(s.head, p[0]), p[1:]
			if have == 3 {
				s.left = binary.BigEndian.Uint32(s.head)
			}
		case s.left == 0:
			s.head = s.head[:0]
		case have < 13:
			s.head, p = append(s.head, p[0]), p[1:]
			s.left--
			if have == 12 && s.head[4] == sftpName {
				s.count += int64(binary.BigEndian.Uint32(s.head[9:]))
			}
		default:
			n := min(int64(s.left), int64(len(p)))
			p = p[n:]
			s.left -= uint32(n)
		}
	}
}
