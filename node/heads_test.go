package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/p2p"
)

// TestInsist: a peer whose connection breaks, or who is busy, is asked again; who has answered is not, whatever he said.
func TestInsist(t *testing.T) {
	busy, broken := fmt.Errorf("pull: %w", topic.ErrBusy), fmt.Errorf("read answer: %w", io.ErrUnexpectedEOF)
	for _, c := range []struct {
		answers []error
		tries   int
		ends    bool // with an answer
	}{
		{[]error{nil}, 1, true},
		{[]error{broken, busy, nil}, 3, true},
		{[]error{busy, fmt.Errorf("refresh: %w", gossip.ErrFork)}, 2, true},
		{[]error{topic.ErrNotFound}, 1, true},
		{[]error{broken, broken, broken, broken, nil}, askHeadsTries, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			err := insist(t.Context(), func() error { n++; return c.answers[n-1] })
			if n != c.tries || (err == nil || decided(err)) != c.ends {
				t.Errorf("%v: %d tries, %v", c.answers, n, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), askHeadsPause/2)
		defer cancel()
		began := time.Now()
		if err := insist(ctx, func() error { return broken }); !errors.Is(err, io.ErrUnexpectedEOF) || time.Since(began) != askHeadsPause/2 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestMet: a stranger who is connected first is not enough when a peer that was named can still come.
func TestMet(t *testing.T) {
	untried, here, gone := p2p.Bootstrap{}, p2p.Bootstrap{Connected: true}, p2p.Bootstrap{Err: io.EOF}
	for _, c := range []struct {
		connected int
		named     []p2p.Bootstrap
		want      bool
	}{
		{0, nil, false}, {1, nil, true},
		{1, []p2p.Bootstrap{untried}, false}, {1, []p2p.Bootstrap{gone, untried}, false},
		{1, []p2p.Bootstrap{untried, here}, true}, {1, []p2p.Bootstrap{gone, gone}, true}, {0, []p2p.Bootstrap{gone}, false},
	} {
		if got := met(c.connected, c.named); got != c.want {
			t.Errorf("%d connected, %+v: got %v, want %v", c.connected, c.named, got, c.want)
		}
	}
}
