package origin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

// A connection that a listing has while it waits for room does not keep the directory from being listed that the walk needs.
func TestSeatsAndRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := &sftpPool{seats: make(chan struct{}, 2)}
		began := time.Now()
		list := func(ctx context.Context, dir string) (out []Entry, bad []Bad, n int, err error) {
			if err := pool.seat(ctx); err != nil {
				return nil, nil, 0, err
			}
			defer func() { <-pool.seats }()
			sub := func(p string) { out = append(out, Entry{Path: p, Mode: content.ModeDir | 0o755}) }
			switch dir {
			case "":
				for _, p := range []string{"a", "b", "c", "d", "e"} {
					sub(p)
				}
			case "a":
				time.Sleep(20 * time.Second)
				sub("a/x")
			case "a/x":
				time.Sleep(time.Second)
			default: // long ones
				time.Sleep(time.Second)
				if err := placeOf(ctx).wait(ctx); err != nil {
					return nil, nil, 1, err
				}
				time.Sleep(time.Second)
				for i := range 1000 {
					out = append(out, Entry{Path: fmt.Sprintf("%s/%04d", dir, i), Mode: content.ModeFile | 0o644})
				}
			}
			return out, nil, 1, nil
		}
		o, _ := Options{Connections: 5}.withDefaults()
		c := &crawler{o: &o, list: list, each: func(Entry) error { return nil }, ahead: newAhead(), most: maxListedBytes}
		c.ahead.mostBytes = 100_000 // b takes more
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := c.walk(ctx); err != nil || time.Since(began) > time.Minute {
			t.Errorf("%d paths after %v: %v", c.count, time.Since(began), err)
		}
	})
}

// parts is a page that comes in parts.
type parts []string

func (p *parts) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

// turned is a page whose turn comes at the moment when it was told to wait.
type turned struct {
	*pageReader
	other *directory
}

func (r turned) Read(b []byte) (int, error) {
	n, err := r.pageReader.Read(b)
	if err == errLarge {
		r.place.a.mu.Lock()
		defer r.place.a.mu.Unlock()
		r.place.a.shrink(r.other)
	}
	return n, err
}

// A page of JSON that has to wait is never taken for one that has ended: the decoder asks again after an error.
func TestPageIsNotCutByItsTurn(t *testing.T) {
	rows := 0
	row := func() string {
		rows++
		return fmt.Sprintf(`{"name":"f%07d","type":"file","mtime":"Fri, 20 Nov 2026 10:11:12 GMT","size":1}`, rows)
	}
	var b strings.Builder
	for b.Len() < aheadPage { // it ends behind a row
		b.WriteString("," + row())
	}
	first := "[" + b.String()[1:]
	second := "," + row() + "]"
	a, other := newAhead(), newDirectory("other", nil)
	a.large = other
	p := &pageReader{Reader: &parts{first, second}, place: &place{a, newDirectory("d", nil)}, left: aheadPage}
	if got, err := parseJSON(turned{p, other}); err == nil && len(got) != rows {
		t.Errorf("%d of %d rows and no error", len(got), rows)
	}
}

// A server that compares a long file with what is here says next to nothing meanwhile, and that is not too little.
func TestComparingIsNotSlow(t *testing.T) {
	for _, keepalives := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			w := newRsyncWire(here, here, func() { here.Close() }, time.Second)
			w.framed, w.least = true, slowest
			go func() {
				for range 20 {
					time.Sleep(400 * time.Millisecond)
					if keepalives {
						_, _ = there.Write([]byte{0, 0, 0, rsyncData})
					}
				}
				head := []byte{20, 0, 0, rsyncData}
				for _, n := range []int32{5, 0, 0, 0, 0} {
					head = append(head, rsyncBytes(n)...)
				}
				_, _ = there.Write(head)
			}()
			b := &rsyncBody{s: &rsyncSession{wire: w, came: -1}, index: 5, basis: &rsyncBasis{size: 10 * comparedPerSecond}}
			if err := b.head(); err != nil {
				t.Errorf("with keepalives %v: %v", keepalives, err)
			}
			here.Close()
			there.Close()
		})
	}
}

// slowly gives a few bytes each time, after a while.
type slowly time.Duration

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(time.Duration(s))
	return copy(p, []byte{0, 0, 0, 0}), nil
}

// Two answers of SFTP that each come in time are in time together, too.
func TestSeveralAnswersAreNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &meter{Reader: slowly(700 * time.Millisecond), kill: func() { t.Error("the connection is ended") }}
		m.begin(sftpReading(3), time.AfterFunc(time.Second, func() { t.Error("it was silent for too long") }), time.Second)
		for range 2 {
			if _, err := m.Read(make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}
		m.end()
	})
}

// A file of a repository that was there and is not given is not taken for one that is not there, unless the server forbids it.
func TestWithheldIsNotAbsent(t *testing.T) {
	var s shelf
	testRPM().write(t, &s)
	s.files["images/boot.iso"] = "an image"
	s.files[".treeinfo"] = "[checksums]\nimages/boot.iso = sha256:" + content.Sum([]byte("an image")).String() + "\n"
	code := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		switch data, ok := s.files[name]; {
		case code != 0 && name == ".treeinfo":
			w.WriteHeader(code)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(w, data)
		}
	}))
	defer server.Close()
	u, err := url.Parse("rpm+" + server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	o, err := Options{AllowPrivate: true}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRPM(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	all, l, err := entriesOf(t, r, Before{})
	if err != nil {
		t.Fatal(err)
	}
	for _, code = range []int{http.StatusBadRequest, http.StatusNotAcceptable, http.StatusRequestURITooLong, http.StatusUnavailableForLegalReasons} {
		if list, _, err := entriesOf(t, r, Before{Memo: l.Memo}); err == nil {
			t.Errorf("with a %d for .treeinfo %d paths instead of %d, and no error", code, len(list), len(all))
		}
	}
}
