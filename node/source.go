package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/node/fetch"
	"swarmnode/node/gateway"
)

// mirrorSource gives chunks to the gateway: from the store, else from peers.
type mirrorSource struct{ c *collection }

// Chunk implements gateway.Source.
func (s mirrorSource) Chunk(ctx context.Context, r *gateway.Release, ref content.Ref, buf []byte) ([]byte, error) {
	f := s.c.follower
	data, err := f.disk.Chunk(ref, buf)
	if err == nil {
		f.took(ref)
	}
	if !errors.Is(err, store.ErrNotHere) {
		return data, passing(err)
	}
	t, err := s.table(r, ref.Segment)
	if err != nil {
		return nil, err
	}
	if err := f.disk.Add(ref.Segment, r.Infos[ref.Segment], t); err != nil {
		return nil, passing(err)
	}
	data, err = f.fetch.Read(ctx, t, ref, buf)
	if errors.Is(err, fetch.ErrHere) { // it was read ahead and has come in this moment
		if data, err = f.disk.Chunk(ref, buf); err == nil {
			f.took(ref)
		}
	}
	return data, passing(err)
}

// table gives the table of a segment of a release.
func (s mirrorSource) table(r *gateway.Release, segment uint32) (*content.Table, error) {
	if int(segment) >= len(r.Infos) || r.Infos[segment].Retired() {
		return nil, fmt.Errorf("%w: a file of release %d has chunks in segment %d, which it does not have", content.ErrFormat, r.Manifest.Release, segment)
	}
	return s.c.table(r.Infos[segment].Table)
}

// File implements gateway.Source. Only what stays for long is lent: what the kernel has taken to send are the pages of the file
// themselves, and punching a hole beside them zeroes a part of a large folio while a slow client has not got it yet (seen
// with ext4 of Linux 6.18). A cache evicts at any moment, and what is dead in the served release goes when its grace ends.
func (s mirrorSource) File(ref content.Ref) (*os.File, int64, func(), bool) {
	f := s.c.follower
	if f.cache != nil || !f.mirror.Stays(ref) {
		return nil, 0, nil, false
	}
	file, offset, release, ok := f.disk.Lend(ref)
	if ok {
		f.took(ref)
	}
	return file, offset, release, ok
}

// Ahead implements gateway.Source.
func (s mirrorSource) Ahead(reader uint64, r *gateway.Release, refs []content.Ref) {
	s.c.follower.fetch.Ahead(reader, refs, func(segment uint32) (*content.Table, error) { return s.table(r, segment) })
}

// Here implements gateway.Source.
func (s mirrorSource) Here(ref content.Ref) bool { return s.c.follower.disk.Has(ref) }

// masterSource gives chunks out of the published directory to the gateway. There is nobody to ask for what has changed there since:
// that takes another publish.
type masterSource struct{ m *master }

// Chunk implements gateway.Source.
func (s masterSource) Chunk(ctx context.Context, _ *gateway.Release, ref content.Ref, buf []byte) ([]byte, error) {
	data, err := s.m.refs.Chunk(ref, buf)
	return data, passing(err)
}

// File implements gateway.Source. A published file may be changed by its owner at any moment, so none is sent unread.
func (s masterSource) File(content.Ref) (*os.File, int64, func(), bool) { return nil, 0, nil, false }

// Ahead implements gateway.Source.
func (s masterSource) Ahead(uint64, *gateway.Release, []content.Ref) {}

// Here implements gateway.Source.
func (s masterSource) Here(ref content.Ref) bool { return s.m.refs.Have(ref.Segment).Has(ref.Index) }

// passing marks what may be had again as gateway.ErrUnavailable: what nobody brings, and what was closed to be opened anew.
func passing(err error) error {
	if errors.Is(err, fetch.ErrNobody) || errors.Is(err, store.ErrNotHere) || errors.Is(err, store.ErrClosed) {
		return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
	}
	return err
}
