package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/content"
)

// ServerStats are the counters of a Server since it began.
type ServerStats struct {
	Conns, Requests int            // open now; HTTP/3 connections count as one
	Refused         uint64         // connections and requests over the limits
	Slow            uint64         // clients that were dropped because they read too slowly
	Answers         [6]uint64      // by class of status: Answers[2] are 2xx; Answers[0] were broken off
	Bytes           uint64         // of bodies
	Collections     []ServedCounts // by ID
}

// ServedCounts are the answers of one collection.
type ServedCounts struct {
	ID       content.ID
	Requests uint64
	Bytes    uint64
}

// counters count answers. Collections are those that the node has, so that their number needs no limit.
type counters struct {
	slow, bytes atomic.Uint64
	answers     [6]atomic.Uint64

	mu          sync.Mutex // guards what follows
	collections map[content.ID]*collectionCounts
}

type collectionCounts struct{ requests, bytes atomic.Uint64 }

func newCounters() *counters { return &counters{collections: map[content.ID]*collectionCounts{}} }

func (c *counters) of(id content.ID) *collectionCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.collections[id]
	if counts == nil {
		counts = &collectionCounts{}
		c.collections[id] = counts
	}
	return counts
}

// served lists the collections by ID.
func (c *counters) served() []ServedCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []ServedCounts
	for id, counts := range c.collections {
		list = append(list, ServedCounts{ID: id, Requests: counts.requests.Load(), Bytes: counts.bytes.Load()})
	}
	slices.SortFunc(list, func(a, b ServedCounts) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return list
}

// answeredBy tells the server around the handler, if there is one, which collection a request is for.
func answeredBy(w http.ResponseWriter, c *Collection) {
	if out, ok := w.(*response); ok {
		out.collection = c.ID
	}
}

// serve is the handler around the handler: limits before it, counting and logging after it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.http3 != nil && r.ProtoMajor < 3 {
		w.Header().Set("Alt-Svc", `h3=":`+strconv.Itoa(s.tcp.Addr().(*net.TCPAddr).Port)+`"; ma=86400`) // a day, RFC 7838 section 3.1
	}
	if !s.requests.enter() {
		refuse(w, http.StatusServiceUnavailable, "This gateway is stopping; try again in some seconds or use another mirror.")
		return
	}
	defer s.requests.leave()
	defer answering(r.Context())()
	out := newResponse(w, r, &s.counts.slow)
	defer s.answered(out, r, time.Now())
	defer s.limiter.requests.Add(-1)
	if s.limiter.requests.Add(1) > int64(s.limiter.conns) {
		s.limiter.refuse()
		refuse(out, http.StatusServiceUnavailable, "This gateway has too many requests to answer; try again in some seconds or use another mirror.")
		return
	}
	if r.ContentLength > 0 || r.ContentLength < 0 && r.ProtoMajor < 3 { // HTTP/3 does not tell whether there is one
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // nobody reads it
			// but net/http, which waits for some of it before it closes
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTimeout))
		}
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			refuse(out, http.StatusRequestEntityTooLarge, "A download needs no request body and this one came with one; leave it out.")
			return
		}
	}
	r.Body = http.NoBody
	m := newMeter(r.Context(), s.cfg.Limit, r.RemoteAddr)
	if m.refuses(out, r) {
		return
	}
	out.meter = m
	s.cfg.Handler.ServeHTTP(out, r)
}

// refuse answers with one sentence.
func refuse(w http.ResponseWriter, status int, why string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", refusedFor)
	}
	http.Error(w, why, status)
}

// answered ends a response: it is counted and logged. A handler that panicked breaks the connection off, as net/http has it, but
// leaves no stack trace to people.
func (s *Server) answered(w *response, r *http.Request, began time.Time) {
	broken := recover()
	w.end(broken != nil)
	if broken != nil && broken != http.ErrAbortHandler {
		s.cfg.Log.Error("gateway: a request met a bug: please report it", "path", r.URL.Path, "problem", fmt.Sprint(broken))
		s.cfg.Log.Debug("gateway: where the bug is", "stack", string(debug.Stack()))
	}
	class := w.status / 100
	if broken != nil || class < 1 || class > 5 {
		class = 0
	}
	s.counts.answers[class].Add(1)
	s.counts.bytes.Add(uint64(w.bytes))
	if w.collection != (content.ID{}) {
		c := s.counts.of(w.collection)
		c.requests.Add(1)
		c.bytes.Add(uint64(w.bytes))
	}
	if s.log != nil {
		s.log.write(r, w.status, w.bytes, began)
	}
	if broken != nil {
		panic(http.ErrAbortHandler)
	}
}

// Stats gives the counters.
func (s *Server) Stats() ServerStats {
	st := ServerStats{Requests: int(s.limiter.requests.Load()), Slow: s.counts.slow.Load(), Bytes: s.counts.bytes.Load()}
	for i := range st.Answers {
		st.Answers[i] = s.counts.answers[i].Load()
	}
	s.limiter.mu.Lock()
	st.Conns, st.Refused = s.limiter.all, s.limiter.refused
	s.limiter.mu.Unlock()
	st.Collections = s.counts.served()
	return st
}

// response counts what goes out, and drops readers of HTTP/2 and HTTP/3 streams that are too slow; those of HTTP/1 are dropped by
// their conn, which also sees what is sent without a copy.
type response struct {
	http.ResponseWriter
	conn       *conn // nil if there is more than HTTP/1.1 between
	head       bool
	status     int
	bytes      int64
	collection content.ID // of the collection that answers; the zero ID is none
	meter      meter      // the bytes of HTTP/1 and 2 are counted by their conn, those of HTTP/3 here
	http3      bool
	up         string // for a browser, the way to the first page: errors are pages then; "" for other clients

	// Only for streams: a timer that runs while something is written.
	timer *time.Timer
	mu    sync.Mutex // guards ended: nothing may be asked of a stream that its server has taken back
	ended bool
}

func newResponse(w http.ResponseWriter, r *http.Request, slow *atomic.Uint64) *response {
	out := &response{ResponseWriter: w, head: r.Method == http.MethodHead, status: http.StatusOK, http3: r.ProtoMajor >= 3}
	if strings.Contains(r.Header.Get("Accept"), "text/html") { // no client but a browser says so
		out.up = wayUp(r.URL.EscapedPath())
	}
	if out.conn = connOf(r.Context()); out.conn != nil {
		out.conn.hold()
	}
	if r.ProtoMajor >= 2 {
		out.timer = time.AfterFunc(slowWindow, func() {
			out.mu.Lock()
			defer out.mu.Unlock()
			if !out.ended {
				slow.Add(1)
				http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) // long ago: the write that waits ends
			}
		})
		out.timer.Stop()
	}
	return out
}

// end says that the handler is done, whether or not it made all of its answer.
func (w *response) end(broken bool) {
	if w.conn != nil {
		if !broken && w.Header()["Content-Length"] != nil { // without a length, net/http has more to say
			http.NewResponseController(w.ResponseWriter).Flush()
		}
		w.conn.release() // a client that is gone needs no answer
	}
	if w.timer == nil {
		return
	}
	if !broken && w.bytes > 0 { // the last of it is still buffered, and its server would wait for the client without an end
		w.timer.Reset(slowWindow)
		http.NewResponseController(w.ResponseWriter).Flush() // a client that is gone needs no answer
	}
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

func (w *response) WriteHeader(status int) {
	if status >= 200 { // what comes before is not the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (n int, err error) {
	if err := w.meter.check(); err != nil {
		return 0, err
	}
	if w.timer == nil {
		n, err = w.ResponseWriter.Write(p)
		w.count(int64(n))
		return n, err
	}
	for {
		part := p[n:min(len(p), n+slowBytes)]
		if w.http3 {
			m, err := w.meter.send(len(part))
			if err != nil {
				return n, err
			}
			part = part[:m]
		}
		w.timer.Reset(slowWindow)
		m, err := w.ResponseWriter.Write(part)
		w.timer.Stop()
		n += m
		w.count(int64(m))
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// ReadFrom keeps the way open on which net/http sends files without a copy.
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	if err := w.meter.check(); err != nil {
		return 0, err
	}
	if from, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		n, err = from.ReadFrom(src)
		w.count(n)
		return n, err
	}
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, src, buf[:])
}

func (w *response) count(n int64) {
	if !w.head { // net/http takes the body of an answer to HEAD and sends nothing
		w.bytes += n
	}
}

// FlushError sends what is buffered; http.ResponseController calls it.
func (w *response) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if err == nil && w.conn != nil {
		err = w.conn.flush()
	}
	return err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
