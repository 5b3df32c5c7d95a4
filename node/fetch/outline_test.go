package fetch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

func TestOutline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		known := content.Blocks{}
		put := func(b []byte) (content.Digest, error) { return known.Put(b), nil }
		tree, _, err := content.BuildTree(func(func(content.Entry, error) bool) {}, put)
		if err != nil {
			t.Fatal(err)
		}
		directory, err := content.BuildDirectory(nil, put)
		if err != nil {
			t.Fatal(err)
		}
		m := content.Manifest{Collection: content.ID{1}, Name: "x", Release: 1, Tree: tree, Directory: directory, Chunking: []byte{1}}
		manifest := known.Put(m.Encode()) // an empty tree and an empty directory are the same block
		outline := func(ctx context.Context, refuse error) (came int, took time.Duration, err error) {
			began := time.Now()
			err = r.Outline(ctx, manifest, 1000, func(content.Digest, []byte) error { came++; return refuse })
			return came, time.Since(began), err
		}

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errWrong)
		defer cancel()
		if _, took, err := outline(ctx, nil); !errors.Is(err, errWrong) || took != time.Second {
			t.Errorf("nobody is there: %v after %v, want the end of the context", err, took)
		}

		slow := whole(0, nil)
		slow.blocks, slow.late = known, 10*time.Second
		r.connect("slow", slow)
		if came, took, err := outline(t.Context(), nil); came != 2 || took < slow.late || err != nil {
			t.Errorf("a slow peer alone: %d blocks after %v, %v, want 2 after 10 s", came, took, err)
		}
		r.connect("the other", whole(0, nil))
		synctest.Wait()
		if came, took, err := outline(t.Context(), nil); came != 0 || took > time.Second || err != nil {
			t.Errorf("a slow peer and another: %d blocks after %v, %v, want none and soon", came, took, err)
		}

		slow.late = 0
		refuse := errors.New("refused")
		if _, _, err := outline(t.Context(), refuse); !errors.Is(err, refuse) {
			t.Errorf("blocks that cannot be kept: %v, want %v", err, refuse)
		}
		slow.metadata = &Failure{Err: errors.New("not here")}
		if came, _, err := outline(t.Context(), nil); came != 0 || err != nil {
			t.Errorf("who does not have it: %d blocks, %v, want none", came, err)
		}
	})
}
