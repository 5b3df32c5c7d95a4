package fetch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// blocks makes n metadata blocks.
func blocks(n int) (list []content.Digest, all map[content.Digest][]byte) {
	all = map[content.Digest][]byte{}
	for i := range n {
		b := fmt.Appendf(nil, "block %d", i)
		list, all[content.Sum(b)] = append(list, content.Sum(b)), b
	}
	return list, all
}

// get fetches blocks and checks that each comes once.
func (r *rig) get(ctx context.Context, list []content.Digest, n int) error {
	r.t.Helper()
	got := map[content.Digest]int{}
	err := r.Blocks(ctx, list, func(d content.Digest, data []byte) error {
		if content.Sum(data) != d {
			r.t.Error("a block with another hash")
		}
		got[d]++
		return nil
	})
	if err == nil && len(got) != n {
		r.t.Errorf("%d blocks came, want %d", len(got), n)
	}
	for d, times := range got {
		if times != 1 {
			r.t.Errorf("block %s came %d times", d, times)
		}
	}
	return err
}

func TestBlocksFromSeveralPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(2000)
		for i, id := range []gossip.PeerID{"a", "lacks", "liar", "none"} {
			p := whole(0, nil)
			for d, b := range all {
				switch {
				case id == "none", id == "lacks" && d[0]%2 == 0:
				case id == "liar":
					p.blocks[d] = []byte("rubbish")
				default:
					p.blocks[d] = b
				}
			}
			r.connect(id, p)
			r.Connected(id, time.Duration(4-i)*time.Millisecond) // the good one is the farthest
		}
		synctest.Wait()
		began := time.Now()
		if err := r.get(context.Background(), append(list, list[:10]...), len(list)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took >= blockPause {
			t.Errorf("it took %v: there was a pause though somebody had not been asked", took)
		}
		if err := r.get(context.Background(), nil, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestBlocksAsksEverybodyBeforeItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(1)
		for i, id := range []gossip.PeerID{"a", "b", "c", "d", "e"} {
			p := whole(0, nil)
			if id == "e" {
				p.blocks = all
			}
			r.connect(id, p)
			r.Connected(id, time.Duration(i+1)*time.Millisecond)
		}
		synctest.Wait()
		began := time.Now()
		if err := r.get(context.Background(), list, 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took >= blockPause {
			t.Errorf("it took %v", took)
		}
	})
}

func TestBlocksWaitForLatePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(600)
		go func() {
			time.Sleep(time.Minute)
			r.connect("none", whole(0, nil))
			time.Sleep(time.Minute)
			late := whole(0, nil)
			late.blocks = all
			r.connect("late", late)
		}()
		began := time.Now()
		if err := r.get(context.Background(), list, len(list)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 2*time.Minute+2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestBlocksAvoidsThoseThatBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(40)
		bad, good := whole(0, nil), whole(0, nil)
		good.blocks = all
		bad.metadata = &Failure{Reason: policy.Reason{Kind: policy.Timeout}, Err: errors.New("timeout")}
		r.connect("bad", bad)
		r.connect("good", good)
		r.Connected("bad", time.Millisecond)
		synctest.Wait()
		for _, d := range list {
			if err := r.get(context.Background(), []content.Digest{d}, 1); err != nil {
				t.Fatal(err)
			}
		}
		if bad.asked > 1 {
			t.Errorf("the nearer peer that always fails was asked %d times", bad.asked)
		}
	})
}

func TestBlocksEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(3)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.get(ctx, list, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody is connected: %v", err)
		}
		p := whole(0, nil)
		p.blocks = all
		r.connect("a", p)
		full := errors.New("the disk is full")
		err := r.Blocks(context.Background(), list, func(content.Digest, []byte) error { return full })
		if !errors.Is(err, full) {
			t.Errorf("the error of each: %v", err)
		}
	})
}
