package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// maxRequest bounds the body of a request in bytes.
	maxRequest = 1 << 20
	// progressEvery is the least time between two progress records.
	progressEvery = 100 * time.Millisecond
	// stopTimeout is how long running requests get when the node stops.
	stopTimeout = 3 * time.Second
)

// record is a line of the answer to a publish. The last line has a result or an error: an answer without is cut.
type record struct {
	Progress *PublishProgress `json:"progress,omitempty"`
	Result   *PublishResult   `json:"result,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// Serve answers on the socket of the home directory until ctx ends. Only the user who runs the node can connect.
func Serve(ctx context.Context, home string, n Node, log *slog.Logger) error {
	path := SocketPath(home)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // left by a node that was killed; the home is locked
		return fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(n.Status()); err != nil {
			log.Debug("control: status not sent", "error", err)
		}
	})
	mux.HandleFunc("POST /v1/publish", func(w http.ResponseWriter, r *http.Request) { servePublish(w, r, n) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		sctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if srv.Shutdown(sctx) != nil {
			srv.Close()
		}
		<-done
		err = context.Cause(ctx)
	}
	os.Remove(path)
	return err
}

func servePublish(w http.ResponseWriter, r *http.Request, n Node) {
	var req PublishRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		http.Error(w, "the request is not understood; is the running node of another version? "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	var mu sync.Mutex // guards the answer and last
	var last time.Time
	send := func(rec record) {
		mu.Lock()
		defer mu.Unlock()
		if rec.Progress != nil && time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		if json.NewEncoder(w).Encode(rec) == nil {
			http.NewResponseController(w).Flush() //nolint:errcheck // a client that is gone ends r.Context
		}
	}
	res, err := n.Publish(r.Context(), req, func(p PublishProgress) { send(record{Progress: &p}) })
	if err != nil {
		send(record{Error: err.Error()})
		return
	}
	send(record{Result: &res})
}
