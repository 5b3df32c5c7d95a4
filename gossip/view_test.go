package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
)

// dumbView keeps one set of chunks; a segment has 100 of them.
type dumbView map[content.Ref]bool

func (d dumbView) apply(h Holdings) {
	if h.Reset {
		clear(d)
	}
	set := func(s uint32, has bool) {
		for i := range uint32(100) {
			d[content.Ref{Segment: s, Index: i}] = has
		}
	}
	for s := range h.Below {
		set(s, true)
	}
	for _, s := range h.Gone {
		set(s, false)
	}
	for s := range uint32(41) {
		if h.Segments.Has(s) {
			set(s, true)
		}
	}
	for _, p := range h.Partial {
		for i := range uint32(100) {
			if p.Chunks.Has(i) {
				d[content.Ref{Segment: p.Segment, Index: i}] = true
			}
		}
	}
}

func TestViewAgainstDumbOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var v View
		dumb := dumbView{}
		for _, h := range rapid.SliceOfN(genHoldings(), 1, 6).Draw(t, "messages") {
			v.Apply(h)
			dumb.apply(h)
		}
		for s := range uint32(41) {
			for i := range uint32(100) {
				ref := content.Ref{Segment: s, Index: i}
				if got, want := v.HasChunk(ref), dumb[ref]; got != want {
					t.Fatalf("HasChunk(%v) = %v, want %v", ref, got, want)
				}
			}
		}
	})
}

func TestHoldingsParts(t *testing.T) {
	h := Holdings{Reset: true, Below: 3, Segments: content.Full(content.MaxSegments / 2), Release: 4}
	for i := range uint32(3000) {
		h.Partial = append(h.Partial, PartialSegment{Segment: content.MaxSegments/2 + i, Chunks: content.Full(8000)})
	}
	for i := range uint32(MaxGone + 5) {
		h.Gone = append(h.Gone, content.MaxSegments-1-i)
	}
	var v View
	for _, p := range h.Parts() {
		v.Apply(must(DecodeHoldings(must(EncodeHoldings(p)))))
	}
	if v.Partial() != MaxPartial || !v.HasSegment(content.MaxSegments/2-1) || v.HasSegment(content.MaxSegments/2) {
		t.Errorf("%d partial segments", v.Partial())
	}
	if got := (Holdings{Below: 1}).Parts(); len(got) != 1 {
		t.Errorf("%d parts, want one", len(got))
	}
}

func TestMembers(t *testing.T) {
	ms := NewMembers(testID)
	at := func(p PeerID, issued time.Time) Member {
		return Member{Collection: testID, Peer: p, Issued: issued.Unix()}
	}
	for _, c := range []struct {
		m    Member
		want bool
	}{
		{at("b", start), true}, {at("b", start), false}, {at("b", start.Add(-time.Second)), false}, {at("b", start.Add(time.Second)), true},
		{at("a", start.Add(MaxClockSkew)), true}, {at("c", start.Add(MaxClockSkew+time.Second)), false},
		{at("d", start.Add(-MemberTTL)), false}, {at("", start), false}, {Member{Peer: "e", Issued: start.Unix()}, false},
	} {
		if got := ms.Put(start, c.m); got != c.want {
			t.Errorf("Put(%+v) = %v, want %v", c.m, got, c.want)
		}
	}
	if all := ms.All(); len(all) != 2 || all[0].Peer != "a" || all[1].Peer != "b" {
		t.Errorf("all: %+v", all)
	}
	if gone := ms.Expire(start.Add(MemberTTL + time.Second)); !slices.Equal(gone, []PeerID{"b"}) {
		t.Errorf("expired %v, want b", gone)
	}
	if _, ok := ms.Get("b"); ok || ms.Len() != 1 {
		t.Error("b is still known")
	}
}

func TestMembersAreLimited(t *testing.T) {
	ms := NewMembers(testID)
	for i := range MaxMembers + 50 {
		ms.Put(start, Member{Collection: testID, Peer: PeerID(fmt.Sprintf("p%06d", i)), Issued: start.Unix() - 7000 + int64(i/2)})
	}
	all := ms.All()
	if len(all) != MaxMembers || all[0].Peer != "p000050" {
		t.Errorf("%d members, the first is %s", len(all), all[0].Peer)
	}
	if ms.Put(start, Member{Collection: testID, Peer: "late", Issued: start.Unix() - 7100}) {
		t.Error("an older record than all displaced one")
	}
}
