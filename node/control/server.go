package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"swarmnode/content/guard"
)

const (
	// maxRequest bounds the body of a request in bytes.
	maxRequest = 2 << 20 // a signing request, as base64
	// progressEvery is the least time between two progress records.
	progressEvery = 100 * time.Millisecond
	// stopTimeout is how long running requests get when the node stops.
	stopTimeout = 3 * time.Second
	// sendTimeout is how long a client may take to read a record; one that is stopped must not hold up the publish.
	sendTimeout = 10 * time.Second
)

// record is a line of the answer to a publish. The last line has a result or an error: an answer without is cut.
type record struct {
	Progress *PublishProgress `json:"progress,omitempty"`
	Result   *PublishResult   `json:"result,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// listen makes the socket. It appears under its name only when nobody else can connect to it.
func listen(home string, log *slog.Logger) (net.Listener, string, error) {
	path := SocketPath(home)
	if filepath.Dir(path) != filepath.Clean(home) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, "", err
		}
	}
	if err := checkDir(home, path); err != nil {
		return nil, "", err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), "c")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(private)
	first := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: first, Net: "unix"})
	if err != nil {
		return nil, "", err
	}
	l.SetUnlinkOnClose(false)
	mode := fs.FileMode(0o600)
	if !guard.On(guard.SocketMode) {
		mode = 0o666
	}
	if err := os.Chmod(first, mode); err != nil {
		return nil, "", errors.Join(err, l.Close())
	}
	if err := os.Rename(first, path); err != nil { // over what a node that was killed left; the home is locked
		return nil, "", errors.Join(err, l.Close())
	}
	return &ownSocket{UnixListener: l, log: log}, path, nil
}

// Serve answers on the socket of the home directory until ctx ends; then all requests have ended. Only the user who runs the
// node can connect.
func Serve(ctx context.Context, home string, n Node, log *slog.Logger) error {
	l, path, err := listen(home, log)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer os.Remove(path)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(n.Status()); err != nil {
			log.Debug("control: status not sent", "error", err)
		}
	})
	mux.HandleFunc("POST /v1/publish", func(w http.ResponseWriter, r *http.Request) { servePublish(w, r, n.Publish) })
	mux.HandleFunc("POST /v1/publish/now", func(w http.ResponseWriter, r *http.Request) { servePublish(w, r, n.PublishNow) })
	mux.HandleFunc("POST /v1/scrub", func(w http.ResponseWriter, r *http.Request) {
		var req ScrubRequest
		if err := json.NewDecoder(body(w, r)).Decode(&req); err != nil || req.Rate < 0 {
			http.Error(w, "the request is not understood; is the running node of another version?", http.StatusBadRequest)
			return
		}
		n.Scrub(req.Rate)
	})
	mux.HandleFunc("POST /v1/limits", func(w http.ResponseWriter, r *http.Request) { serveLimits(w, r, n) })
	mux.HandleFunc("POST /v1/acknowledge", func(w http.ResponseWriter, r *http.Request) {
		var req AcknowledgeRequest
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req)
		if err == nil {
			err = n.Acknowledge(req.Collection)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	manage(mux, n)
	serveStreams(mux, n)
	g := &gate{}
	srv := &http.Server{
		Handler: g.guard(mux), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err = <-done:
		srv.Close()
	case <-ctx.Done():
		sctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if srv.Shutdown(sctx) != nil {
			srv.Close()
		}
		<-done
		err = context.Cause(ctx)
	}
	g.close() // the node must not close what they use
	return err
}

// gate counts requests, which a http.Server does not wait for when it is closed.
type gate struct {
	mu       sync.Mutex // guards closed and the beginning of requests
	closed   bool
	requests sync.WaitGroup
}

func (g *gate) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
			return
		}
		g.requests.Add(1)
		g.mu.Unlock()
		defer g.requests.Done()
		h.ServeHTTP(w, r)
	})
}

// close lets no more in and waits for those that are.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.requests.Wait()
}

// body is what a request says, no more of it than any needs.
func body(w http.ResponseWriter, r *http.Request) io.Reader {
	if !guard.On(guard.ControlLimit) {
		return r.Body
	}
	return http.MaxBytesReader(w, r.Body, maxRequest)
}

func servePublish[Q any](w http.ResponseWriter, r *http.Request, publish func(context.Context, Q, func(PublishProgress)) (PublishResult, error)) {
	var req Q
	dec := json.NewDecoder(body(w, r))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		http.Error(w, "the request is not understood; is the running node of another version? "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	var mu sync.Mutex // guards the answer and what follows
	var last time.Time
	over := false // the last record was sent, or nobody reads
	send := func(rec record) {
		mu.Lock()
		defer mu.Unlock()
		if over || rec.Progress != nil && time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		to := http.NewResponseController(w)
		err := errors.Join(to.SetWriteDeadline(last.Add(sendTimeout)), json.NewEncoder(w).Encode(rec), to.Flush())
		over = err != nil || rec.Progress == nil
	}
	res, err := publish(r.Context(), req, func(p PublishProgress) { send(record{Progress: &p}) })
	if err != nil {
		send(record{Error: err.Error()})
		return
	}
	send(record{Result: &res})
}
