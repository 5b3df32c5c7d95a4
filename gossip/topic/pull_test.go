package topic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/gossip"
)

var errAbsent = errors.New("absent")

// serving gives a node that serves a file of 1,000 bytes named "1.root.json", and one that asks it.
func serving(t *testing.T) (server, client *node, file []byte) {
	t.Helper()
	server, client = newNode(t), newNode(t)
	connect(t, client, server)
	file = bytes.Repeat([]byte("0123456789"), 100)
	server.net.Serve(func(id content.ID, name string) ([]byte, error) {
		if id == testID && name == "1.root.json" {
			return file, nil
		}
		return nil, errAbsent
	}, func() []gossip.Claim {
		mine := gossip.Claim{Collection: testID, Name: "test", Release: 3, Peer: server.id(), Expires: 9, KeyID: "ab", Signature: []byte{1}}
		foreign := mine
		foreign.Peer = client.id()
		return []gossip.Claim{mine, foreign}
	})
	return server, client, file
}

func TestPull(t *testing.T) {
	server, client, file := serving(t)
	got, err := client.net.Pull(t.Context(), server.id(), testID, "1.root.json", 1000)
	if err != nil || !bytes.Equal(got, file) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	for _, c := range []struct {
		name string
		id   content.ID
		max  int64
		want error
	}{
		{"2.root.json", testID, 1000, ErrNotFound},
		{"1.root.json", content.NewID([]byte("other")), 1000, ErrNotFound},
		{"1.root.json", testID, 999, ErrTooLarge},
		{"1.root.json", testID, 0, ErrRefused},
		{"../key", testID, 1000, ErrRefused},
		{"", testID, 1000, ErrRefused},
		{strings.Repeat("a", MaxPullName+1), testID, 1000, ErrRefused},
	} {
		if _, err := client.net.Pull(t.Context(), server.id(), c.id, c.name, c.max); !errors.Is(err, c.want) {
			t.Errorf("pull %.20q max %d: got %v, want %v", c.name, c.max, err, c.want)
		}
	}
	// A client that does not check names itself is refused by the server.
	_, err = client.net.request(t.Context(), server.id(), pullRequest{Want: wantFile, Name: "../key", Max: 10})
	if !errors.Is(err, ErrRefused) {
		t.Errorf("server: got %v, want ErrRefused", err)
	}
	if _, err := client.net.Pull(t.Context(), "nonsense", testID, "1.root.json", 10); err == nil {
		t.Error("pull from a peer that cannot be")
	}
	if got := server.net.Stats(); got.Pulls != 1 || got.PullsRefused != 4 {
		t.Errorf("stats %+v, want 1 answered and 4 refused", got)
	}
}

// A peer that does not know the protocol has answered; one that hangs up has not.
func TestAnswered(t *testing.T) {
	client, mute := newNode(t), newHost(t)
	client.host.Peerstore().AddAddrs(mute.ID(), mute.Addrs(), time.Hour)
	if _, err := client.net.Pull(t.Context(), gossip.PeerID(mute.ID().String()), testID, "bundle", 10); !Answered(err) {
		t.Errorf("an unknown protocol: %v", err)
	}
	mute.SetStreamHandler(PullProtocol, func(s network.Stream) { s.Reset() })
	if _, err := client.net.Pull(t.Context(), gossip.PeerID(mute.ID().String()), testID, "bundle", 10); err == nil || Answered(err) {
		t.Errorf("a reset: %v", err)
	}
}

func TestClaims(t *testing.T) {
	server, client, _ := serving(t)
	got, err := client.net.Claims(t.Context(), server.id())
	want := []gossip.Claim{{Collection: testID, Name: "test", Release: 3, Peer: server.id(), Expires: 9, KeyID: "ab", Signature: []byte{1}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := server.net.Claims(t.Context(), client.id()); !errors.Is(err, ErrNotFound) {
		t.Errorf("claims of a node that serves none: %v, want ErrNotFound", err)
	}
}

func TestPullsOfOnePeerAreLimited(t *testing.T) {
	server, client := newNode(t), newNode(t)
	connect(t, client, server)
	entered, release := make(chan struct{}), make(chan struct{})
	var count atomic.Int32
	server.net.Serve(func(content.ID, string) ([]byte, error) {
		if count.Add(1) > maxPullsPerPeer {
			return nil, errors.New("one too many")
		}
		entered <- struct{}{}
		<-release
		return []byte("x"), nil
	}, nil)
	var wg sync.WaitGroup
	for range maxPullsPerPeer {
		wg.Go(func() {
			if _, err := client.net.Pull(t.Context(), server.id(), testID, "bundle", 10); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	if _, err := client.net.Pull(t.Context(), server.id(), testID, "bundle", 10); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v, want ErrBusy", err)
	} else if Answered(err) {
		t.Error("who is busy has not answered")
	}
	close(release)
	wg.Wait()
}

func TestGarbageOnAStreamDoesNoHarm(t *testing.T) {
	server, client, _ := serving(t)
	bad := make(chan gossip.PeerID, 10)
	server.net.OnBadPull(func(from gossip.PeerID, answered bool) {
		if !answered {
			bad <- from
		}
	})
	for _, garbage := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 100), make([]byte, 100_000), []byte("GET / HTTP/1.1\r\n\r\n")} {
		s, err := client.host.NewStream(t.Context(), server.host.ID(), PullProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(garbage)
		s.CloseWrite()
		if got, err := io.ReadAll(s); err == nil && len(got) > 1 {
			t.Errorf("garbage %.10q was answered with %d bytes", garbage, len(got))
		}
		s.Reset()
	}
	if _, err := client.net.Pull(t.Context(), server.id(), testID, "1.root.json", 1000); err != nil {
		t.Errorf("a good request afterwards: %v", err)
	}
	for range 5 { // each of them
		if from := <-bad; from != client.id() {
			t.Errorf("%s broke the protocol, want %s", from, client.id())
		}
	}
}

func TestAnswersThatLie(t *testing.T) {
	server, client := newNode(t), newNode(t)
	connect(t, client, server)
	answer := func(b ...byte) func(network.Stream) {
		return func(s network.Stream) {
			io.ReadAll(s)
			s.Write(b)
			s.Close()
		}
	}
	var lies int
	client.net.OnBadPull(func(from gossip.PeerID, answered bool) {
		if from == server.id() && answered {
			lies++
		}
	})
	for _, c := range []struct {
		name    string
		handler func(network.Stream)
		want    error
		lies    int // so far
	}{
		{"huge length", answer(0, 0xff, 0xff, 0xff, 0xff), ErrTooLarge, 1},
		{"it says that it is too large", answer(3), ErrTooLarge, 1},
		{"cut off", answer(0, 0, 0, 0, 5, 'x'), io.ErrUnexpectedEOF, 1},
		{"nothing", answer(), io.EOF, 1},
		{"status of a later program", answer(99), ErrRefused, 1},
	} {
		server.host.SetStreamHandler(PullProtocol, c.handler)
		if _, err := client.net.Pull(t.Context(), server.id(), testID, "bundle", 10); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if lies != c.lies {
			t.Errorf("%s: %d answers broke the protocol, want %d", c.name, lies, c.lies)
		}
	}
	server.host.SetStreamHandler(PullProtocol, answer(0, 0, 0, 0, 3, 0xff, 0xfe, 0xfd))
	if got, err := client.net.Claims(t.Context(), server.id()); err == nil || lies != 2 {
		t.Errorf("claims that cannot be read: got %v, %v, and %d lies, want 2", got, err, lies)
	}
	// A peer that never answers is left when the context ends.
	server.host.SetStreamHandler(PullProtocol, func(s network.Stream) { io.ReadAll(s) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.net.Pull(ctx, server.id(), testID, "bundle", 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: got %v, want the context's error", err)
	}
}
