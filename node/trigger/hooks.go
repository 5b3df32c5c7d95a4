package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// MaxHookBody is how long the body of a webhook may be: that of forges is some 10 KiB.
	MaxHookBody = 64 << 10
	// maxHookConns is how many connections are open at a time: those who call a hook are few.
	maxHookConns = 64
	// hookTimeout is how long a call may take in all, to read and to answer.
	hookTimeout = 10 * time.Second
	// maxSecretFile bounds the file of a secret.
	maxSecretFile = 4 << 10
)

// Hook is what a webhook of a collection does.
type Hook struct {
	Secret  []byte       // nil: none is asked for; only where nobody else can call
	Trigger func() State // has the collection published; gives how its runner stands
}

// Hooks takes webhooks at one address: POST /NAME has the collection NAME published.
type Hooks struct {
	listener net.Listener
	server   *http.Server
	now      func() time.Time
	ended    chan struct{}

	mu    sync.Mutex // guards hooks
	hooks map[string]*hook
}

type hook struct {
	Hook
	memory
}

// ListenHooks takes an address, host:port.
func ListenHooks(address string, now func() time.Time, log *slog.Logger) (*Hooks, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks at %s: %w; choose another with --webhook", address, err)
	}
	h := &Hooks{listener: l, now: now, ended: make(chan struct{}), hooks: map[string]*hook{}}
	h.server = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), ReadTimeout: hookTimeout, WriteTimeout: hookTimeout,
		IdleTimeout: hookTimeout, MaxHeaderBytes: 16 << 10}
	go func() {
		defer close(h.ended)
		if err := h.server.Serve(netutil.LimitListener(l, maxHookConns)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("webhooks are not taken any more: start the node again", "address", address, "error", err)
		}
	}()
	return h, nil
}

// Addr is where it listens.
func (h *Hooks) Addr() string { return h.listener.Addr().String() }

// Set makes the hook of a name, or another one of it.
func (h *Hooks) Set(name string, k Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hooks[name] = &hook{Hook: k}
}

// Remove ends the hook of a name. It gives how many are left.
func (h *Hooks) Remove(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.hooks, name)
	return len(h.hooks)
}

// Close ends the listening and waits for the calls under way.
func (h *Hooks) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout/5)
	defer cancel()
	err := h.server.Shutdown(ctx)
	if err != nil {
		err = h.server.Close()
	}
	<-h.ended
	return err
}

// hookAnswer is what a caller is told.
type hookAnswer struct {
	State string `json:"state"` // running, queued or waiting
	Next  string `json:"next,omitempty"`
}

// ServeHTTP answers a call.
func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	k := h.hooks[strings.TrimPrefix(r.URL.Path, "/")]
	h.mu.Unlock()
	if k == nil {
		http.Error(w, "no collection of this name is published by webhook here", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST calls the hook", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxHookBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		http.Error(w, "the body is too long", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	if k.Secret == nil && r.Header.Get("Origin") != "" { // a page in a browser of this machine
		http.Error(w, "not authorised", http.StatusUnauthorized)
		return
	}
	if k.Secret != nil {
		if err := k.verify(k.Secret, r.Header.Get(SignatureHeader), body, h.now()); err != nil {
			http.Error(w, "not authorised", http.StatusUnauthorized)
			return
		}
	}
	s := k.Trigger()
	a := hookAnswer{State: "queued"}
	if s.Running {
		a.State = "running; it is run again after that"
	}
	if !s.Next.IsZero() {
		a.Next = s.Next.UTC().Format(time.RFC3339)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(a) // who has gone hears nothing
}

// ReadSecret reads the secret of webhooks: the file less the white space around it.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secret of the webhook: %w; `openssl rand -hex 32 > FILE` makes one", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("secret of the webhook: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if len(secret) < minSecret || len(raw) > maxSecretFile {
		return nil, fmt.Errorf("secret of the webhook: %s should have from %d characters to %d bytes: `openssl rand -hex 32 > %s` makes one", path, minSecret, maxSecretFile, path)
	}
	return []byte(secret), nil
}

// CheckAddress refuses an address for webhooks that cannot be listened at, and one that others can reach without a secret.
func CheckAddress(address string, secret bool) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q: write it as host:port, such as 127.0.0.1:9000, or :9000 for all addresses of this machine", address)
	}
	if a, err := netip.ParseAddr(host); !secret && (err != nil || !a.IsLoopback()) && host != "localhost" {
		return fmt.Errorf("%q can be reached by others, who could have this machine read the origin again and again: give a secret with --webhook-secret-file FILE, "+
			"or listen at 127.0.0.1:%s", address, port)
	}
	return nil
}
