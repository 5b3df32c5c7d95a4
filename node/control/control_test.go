package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"swarmnode/content"
	"swarmnode/node/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode publishes as its function says.
type fakeNode struct {
	publish func(ctx context.Context, req PublishRequest, progress func(PublishProgress)) (PublishResult, error)
	rate    int64  // of the scrub that was asked for
	known   string // the only collection there is an alarm to end for
	journal *Journal
	Manager // nil unless a test sets it
}

func (f *fakeNode) Status() Status {
	return Status{Verdict: "fine", Fine: true, Collections: []Collection{{Name: "debian", Serving: Serving{Release: 7}}}}
}

func (f *fakeNode) PublishNow(ctx context.Context, req NowRequest, progress func(PublishProgress)) (PublishResult, error) {
	return f.Publish(ctx, PublishRequest{Name: req.Collection}, progress)
}

func (f *fakeNode) Publish(ctx context.Context, req PublishRequest, progress func(PublishProgress)) (PublishResult, error) {
	return f.publish(ctx, req, progress)
}

func (f *fakeNode) Journal() *Journal { return f.journal }

func (f *fakeNode) Scrub(rate int64) { f.rate = rate }

func (f *fakeNode) SetLimits(values map[string]string) error {
	return new(policy.Limits).Set("upload", values["upload"])
}

func TestSetLimits(t *testing.T) {
	home := t.TempDir()
	defer serve(t, home, &fakeNode{})()
	if err := NewClient(home).SetLimits(t.Context(), LimitsRequest{"upload": "5Mbit"}); err != nil {
		t.Error(err)
	}
	if err := NewClient(home).SetLimits(t.Context(), LimitsRequest{"upload": "much"}); err == nil || !strings.Contains(err.Error(), "20Mbit") {
		t.Errorf("a bad value: got %v, want how to write it", err)
	}
}

func (f *fakeNode) Acknowledge(name string) error {
	if name != f.known {
		return errors.New("no alarm for " + name)
	}
	return nil
}

func TestAcknowledge(t *testing.T) {
	home := t.TempDir()
	defer serve(t, home, &fakeNode{known: "debian"})()
	if err := NewClient(home).Acknowledge(t.Context(), "debian"); err != nil {
		t.Error(err)
	}
	if err := NewClient(home).Acknowledge(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "no alarm for other") {
		t.Errorf("a collection that is not here: %v", err)
	}
}

// serve runs the server on home until stop is called, which gives its error.
func serve(t *testing.T, home string, n Node) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, home, n, slog.New(slog.DiscardHandler)) }()
	for {
		if _, err := NewClient(home).Status(context.Background()); err == nil {
			break
		} else if !errors.Is(err, ErrNoNode) {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			t.Fatalf("serve: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { stop() })
	return stop
}

func TestRoundTrip(t *testing.T) {
	home := t.TempDir()
	id := content.NewID([]byte("x"))
	late := make(chan func(PublishProgress), 1)
	n := &fakeNode{publish: func(_ context.Context, req PublishRequest, progress func(PublishProgress)) (PublishResult, error) {
		if req.Dir == "/bad" {
			return PublishResult{}, errors.New("no such directory")
		}
		progress(PublishProgress{Phase: "reading", Done: 5})
		late <- progress
		return PublishResult{ID: id, Name: req.Name, Release: 3, Skipped: []string{"a"}}, nil
	}}
	stop := serve(t, home, n)
	c := NewClient(home)
	st, err := c.Status(context.Background())
	if err != nil || !st.Fine || len(st.Collections) != 1 || st.Collections[0].Release != 7 {
		t.Errorf("status %+v, %v", st, err)
	}
	var told []PublishProgress
	res, err := c.Publish(context.Background(), PublishRequest{Dir: "/srv", Name: "debian"}, func(p PublishProgress) { told = append(told, p) })
	if err != nil || res.ID != id || res.Name != "debian" || res.Release != 3 || len(res.Skipped) != 1 {
		t.Errorf("published %+v, %v", res, err)
	}
	if len(told) != 1 || told[0].Done != 5 {
		t.Errorf("progress %+v, want one of 5 bytes", told)
	}
	(<-late)(PublishProgress{Done: 9}) // after the answer: must do no harm
	if _, err := c.Publish(context.Background(), PublishRequest{Dir: "/bad"}, nil); err == nil || err.Error() != "no such directory" {
		t.Errorf("publish of a bad directory: %v", err)
	}
	st1, err := os.Stat(SocketPath(home))
	if err != nil || st1.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", st1.Mode(), err)
	}
	if names, _ := os.ReadDir(home); len(names) != 1 {
		t.Errorf("left in the home: %v", names)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("serve ended with %v", err)
	}
	if _, err := c.Status(context.Background()); !errors.Is(err, ErrNoNode) {
		t.Errorf("status without a node: %v, want ErrNoNode", err)
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	home := t.TempDir()
	serve(t, home, &fakeNode{})
	body, err := NewClient(home).do(context.Background(), http.MethodPost, "/v1/publish", []byte(`{"dir":"/x","new_option":true}`))
	if err == nil {
		body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "new_option") {
		t.Errorf("a request with an unknown field: %v", err)
	}
	for _, raw := range []string{"", "{", `{"dir":7}`} {
		if _, err := NewClient(home).do(context.Background(), http.MethodPost, "/v1/publish", []byte(raw)); err == nil {
			t.Errorf("request %q was taken", raw)
		}
	}
}

// answer serves one connection at the socket of home with raw bytes.
func answer(t *testing.T, home, raw string) {
	t.Helper()
	l, err := net.Listen("unix", SocketPath(home))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, raw)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func TestCutAnswerIsAnError(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
	for name, raw := range map[string]string{
		"nothing": head, "progress only": head + `{"progress":{"phase":"reading"}}` + "\n", "half a result": head + `{"result":{"release":1`,
		"empty record": head + "{}\n",
	} {
		home := t.TempDir()
		answer(t, home, raw)
		_, err := NewClient(home).Publish(context.Background(), PublishRequest{}, func(PublishProgress) {})
		if err == nil || errors.Is(err, ErrNoNode) {
			t.Errorf("%s: %v, want an error that the node stopped", name, err)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	home := t.TempDir()
	ended := make(chan error, 1)
	begun := make(chan struct{})
	serve(t, home, &fakeNode{publish: func(ctx context.Context, _ PublishRequest, _ func(PublishProgress)) (PublishResult, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return PublishResult{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-begun; cancel() }()
	if _, err := NewClient(home).Publish(ctx, PublishRequest{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("publish gave %v, want context.Canceled", err)
	}
	if err := <-ended; err == nil {
		t.Error("the publish went on without its client")
	}
}

func TestStopWaitsForARunningRequest(t *testing.T) {
	home := t.TempDir()
	begun, over := make(chan struct{}), false
	stop := serve(t, home, &fakeNode{publish: func(ctx context.Context, _ PublishRequest, _ func(PublishProgress)) (PublishResult, error) {
		close(begun)
		<-ctx.Done()
		over = true
		return PublishResult{}, errors.New("the node stops")
	}})
	got := make(chan error, 1)
	go func() {
		_, err := NewClient(home).Publish(context.Background(), PublishRequest{}, nil)
		got <- err
	}()
	<-begun
	stop()
	if !over {
		t.Error("Serve returned under a running request")
	}
	if err := <-got; err == nil || err.Error() != "the node stops" {
		t.Errorf("the client got %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	home := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketPath(home), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as after a kill
	if _, err := NewClient(home).Status(context.Background()); !errors.Is(err, ErrNoNode) {
		t.Errorf("status at a stale socket: %v, want ErrNoNode", err)
	}
	serve(t, home, &fakeNode{})
}

func TestLongHome(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	home := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	path := SocketPath(home)
	if strings.HasPrefix(path, home) {
		t.Fatalf("socket at %s", path)
	}
	if other := SocketPath(home + "/x"); other == path {
		t.Error("two homes share a socket")
	}
	serve(t, home, &fakeNode{})()
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end() // where it does serve, it ends at once
	if err := Serve(ended, home, &fakeNode{}, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("serves in a directory that others can write: %v", err)
	}
	if _, err := NewClient(home).Status(context.Background()); err == nil || errors.Is(err, ErrNoNode) {
		t.Errorf("the client trusts a directory that others can write: %v", err)
	}
}

func TestSocketPathDoesNotDependOnTheSpelling(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if got, want := SocketPath("a/../home"), SocketPath(filepath.Join(dir, "home")); got != want {
		t.Errorf("%s and %s", got, want)
	}
}

// TestLargeRequestsAreRefused: what is larger than any request is not read to its end, wherever it has its bytes.
func TestLargeRequestsAreRefused(t *testing.T) {
	home, n := t.TempDir(), &fakeNode{}
	serve(t, home, n)
	for path, raw := range map[string]string{"/v1/scrub": `{"rate":5000}`, "/v1/publish": `{"dir":"/x"}`} {
		large := append(bytes.Repeat([]byte(" "), maxRequest), raw...)
		body, err := NewClient(home).do(t.Context(), http.MethodPost, path, large)
		if err == nil {
			body.Close()
			t.Errorf("%s: a request of %d bytes was taken, at most %d are allowed", path, len(large), maxRequest)
		}
	}
	if n.rate != 0 {
		t.Errorf("a scrub at %d bytes/s was begun", n.rate)
	}
}

func TestScrubIsAskedFor(t *testing.T) {
	home, n := t.TempDir(), &fakeNode{}
	stop := serve(t, home, n)
	if err := NewClient(home).Scrub(t.Context(), ScrubRequest{Rate: 5000}); err != nil {
		t.Error(err)
	}
	if err := NewClient(home).Scrub(t.Context(), ScrubRequest{Rate: -1}); err == nil {
		t.Error("a negative rate is taken")
	}
	stop()
	if n.rate != 5000 {
		t.Errorf("asked for %d bytes/s, want 5000", n.rate)
	}
	if err := NewClient(home).Scrub(t.Context(), ScrubRequest{}); !errors.Is(err, ErrNoNode) {
		t.Errorf("without a node: %v", err)
	}
}
