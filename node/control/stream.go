package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxStreams is how many commands can follow the log or the events at a time.
	maxStreams = 32
	// lookEvery is how often the status is looked at for those who follow the events.
	lookEvery = time.Second
	// quietFor is after how long without an event a comment is sent, so that both ends notice when the other has gone.
	quietFor = 15 * time.Second
	// maxEvent is the most bytes of a line in a stream of events.
	maxEvent = 1 << 20
)

// The types of events.
const (
	EventStatus  = "status"  // the verdict is another one; the first event of a stream tells what it is
	EventRelease = "release" // a collection serves another release
	EventAlarm   = "alarm"   // of a collection: another one, or over if Collection.Alarm is ""
	EventEnd     = "end"     // the node stops
)

// Event is something that happened in a running node.
type Event struct {
	Type       string      `json:"type"`
	Time       time.Time   `json:"time"`
	Verdict    string      `json:"verdict,omitempty"`
	Fine       bool        `json:"fine,omitempty"`
	Collection *Collection `json:"collection,omitempty"`
}

// streams counts who follows.
type streams struct {
	node   Node
	places chan struct{} // capacity maxStreams
}

// serveStreams answers those who follow the log or the events.
func serveStreams(mux *http.ServeMux, n Node) {
	s := &streams{node: n, places: make(chan struct{}, maxStreams)}
	mux.HandleFunc("GET /v1/logs", s.enter(s.logs))
	mux.HandleFunc("GET /v1/events", s.enter(s.events))
}

// enter bounds how many are served at a time.
func (s *streams) enter(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.places <- struct{}{}:
			defer func() { <-s.places }()
			serve(w, r)
		default:
			http.Error(w, fmt.Sprintf("%d commands follow this node already: end one", maxStreams), http.StatusServiceUnavailable)
		}
	}
}

// send writes a piece of a stream within sendTimeout: a reader that is stopped must not hold up the end of the node.
func send(w http.ResponseWriter, piece []byte) error {
	to := http.NewResponseController(w)
	if err := to.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	if _, err := w.Write(piece); err != nil {
		return err
	}
	return to.Flush()
}

// logs sends the newest records, and what follows if that is asked for, as lines of JSON.
func (s *streams) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var level slog.Level
	n, err := strconv.Atoi(q.Get("n"))
	if err = errors.Join(err, level.UnmarshalText([]byte(q.Get("level")))); err != nil || n < 0 {
		http.Error(w, "the request is not understood; is the running node of another version?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	line := func(rec LogRecord) error {
		raw, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return send(w, append(raw, '\n'))
	}
	journal := s.node.Journal()
	if !q.Has("follow") {
		for _, rec := range append(journal.last(level, n), LogRecord{End: true}) {
			if line(rec) != nil {
				return
			}
		}
		return
	}
	before, after, stop := journal.follow(level, n)
	defer stop()
	for _, rec := range before {
		if line(rec) != nil {
			return
		}
	}
	for {
		select {
		case rec := <-after:
			if line(rec) != nil {
				return
			}
		case <-r.Context().Done():
			_ = line(LogRecord{End: true}) // the client may have gone
			return
		}
	}
}

// events sends what happens as server-sent events (WHATWG HTML, section 9.2).
func (s *streams) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tell := func(e Event) error {
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return send(w, fmt.Appendf(nil, "event: %s\ndata: %s\n\n", e.Type, raw))
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last *Status
	told := time.Now()
	for {
		now := time.Now()
		next := s.node.Status()
		for _, e := range changes(last, &next, now) {
			if tell(e) != nil {
				return
			}
			told = now
		}
		last = &next
		if now.Sub(told) >= quietFor {
			if send(w, []byte(": still here\n\n")) != nil {
				return
			}
			told = now
		}
		select {
		case <-r.Context().Done():
			next := s.node.Status() // what happened since is told, too
			for _, e := range append(changes(last, &next, time.Now()), Event{Type: EventEnd, Time: time.Now()}) {
				if tell(e) != nil { // the client has gone
					return
				}
			}
			return
		case <-tick.C:
		}
	}
}

// changes are the events between two looks at the status; was is nil at the first.
func changes(was, is *Status, now time.Time) (list []Event) {
	before := map[string]Collection{}
	if was != nil {
		for _, c := range was.Collections {
			before[c.ID.String()] = c
		}
	}
	for _, c := range is.Collections {
		old, known := before[c.ID.String()]
		if was != nil && c.Release != old.Release && c.Release > 0 {
			list = append(list, Event{Type: EventRelease, Time: now, Collection: &c})
		}
		if c.Alarm != old.Alarm && (known || c.Alarm != "") {
			list = append(list, Event{Type: EventAlarm, Time: now, Collection: &c})
		}
	}
	if was == nil || was.Verdict != is.Verdict {
		list = append(list, Event{Type: EventStatus, Time: now, Verdict: is.Verdict, Fine: is.Fine})
	}
	return list
}

// ErrCut says that a stream ended although the node did not say that it stops.
var ErrCut = errors.New("the node has ended without a word: killed, or it crashed")

// Logs gives the newest n records of the node's log from a level on to each, and those that follow until the node stops or ctx ends, if
// follow is set. The error is ErrNoNode if none runs.
func (c *Client) Logs(ctx context.Context, level slog.Level, n int, follow bool, each func(LogRecord) error) error {
	q := url.Values{"level": {level.String()}, "n": {strconv.Itoa(n)}}
	if follow {
		q.Set("follow", "1")
	}
	body, err := c.do(ctx, http.MethodGet, "/v1/logs?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var r LogRecord
		if err := dec.Decode(&r); err != nil {
			return cut(ctx, err)
		}
		if r.End {
			return nil
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// Events gives what happens in the node to each, until the node stops, which is the last event, or ctx ends. The error is ErrNoNode if
// none runs.
func (c *Client) Events(ctx context.Context, each func(Event) error) error {
	body, err := c.do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue // the type is in the data, too
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("an event of the running node: %w", err)
		}
		if err := each(e); err != nil || e.Type == EventEnd {
			return err
		}
	}
	return cut(ctx, lines.Err())
}

// cut says why a stream ended without an end.
func cut(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ErrCut
	}
	return fmt.Errorf("%w: %w", ErrCut, err)
}
