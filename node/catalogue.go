package node

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/content"
	"swarmnode/node/gateway"
	"swarmnode/node/mirror"
)

// keptSegments bounds the segment directories of replaced releases in memory: 20 MB or so. That is all releases of a day for
// most collections, and the last four of a 4 TB archive, which has four a day.
const keptSegments = 1 << 18

// catalogue is what the gateway serves: a picture of the open collections. It is made again when somebody asks after a change,
// not per request.
type catalogue struct {
	collections func() []*collection
	mirrors     func(content.ID) []gateway.Mirror
	log         func(c *collection, manifest content.Digest, err error) // of a kept release that cannot be read
	now         func() time.Time

	changes atomic.Uint64 // counts what has changed
	picture atomic.Pointer[picture]

	making   sync.Mutex // held while a picture is made; guards what follows
	releases map[content.Digest]*gateway.Release
}

// picture is the open collections at one moment.
type picture struct {
	changes uint64 // that were counted when it was begun
	list    []*gateway.Collection
}

// touch says that something has changed: who asks from now on is told of it. It can be called under any lock.
func (k *catalogue) touch() { k.changes.Add(1) }

// current gives the picture if nothing has changed since it was begun, else nil.
func (k *catalogue) current() *picture {
	if p := k.picture.Load(); p != nil && p.changes == k.changes.Load() {
		return p
	}
	return nil
}

// Collections implements gateway.Catalogue: the picture as it is after the last change.
func (k *catalogue) Collections() []*gateway.Collection {
	if p := k.current(); p != nil {
		return p.list
	}
	k.making.Lock()
	defer k.making.Unlock()
	if p := k.current(); p != nil {
		return p.list // somebody was faster
	}
	changes := k.changes.Load() // before anything is looked at: a change meanwhile makes the next picture
	list, used := []*gateway.Collection{}, map[content.Digest]*gateway.Release{}
	for _, c := range k.collections() {
		list = append(list, k.describe(c, used))
	}
	slices.SortFunc(list, func(a, b *gateway.Collection) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	k.releases = used
	k.picture.Store(&picture{changes, list})
	return list
}

// find gives one collection of the picture; nil if it is not open.
func (k *catalogue) find(id content.ID) *gateway.Collection {
	for _, c := range k.Collections() {
		if c.ID == id {
			return c
		}
	}
	return nil
}

// describe tells of one collection; used takes up the releases in it.
func (k *catalogue) describe(c *collection, used map[content.Digest]*gateway.Release) *gateway.Collection {
	g := &gateway.Collection{ID: c.id, Name: c.name(), Metadata: c.trust.File, Mirrors: func() []gateway.Mirror { return k.mirrors(c.id) }}
	var kept []content.Digest
	g.Paused = c.outlet.shut()
	if c.master != nil {
		g.Source = masterSource{c}
		kept = k.describeMaster(c, g, used)
	} else {
		g.Source = mirrorSource{c}
		kept = k.describeMirror(c, g, used)
	}
	if g.Paused {
		g.Served, g.Next, kept = nil, nil, nil
	}
	if g.Served != nil {
		g.Name = g.Served.Manifest.Name
		g.Fresh = c.listener.Heard(k.now(), g.Served.Manifest.Release).FreshAsOf
	}
	room := keptSegments
	for _, d := range kept {
		r, err := k.load(c, d, used)
		if err != nil {
			k.log(c, d, err)
			continue
		}
		if room -= len(r.Infos); room < 0 {
			break
		}
		g.Kept = append(g.Kept, r)
	}
	return g
}

// describeMirror tells what a mirror serves: its served release, or as long as there is none the one that is being fetched, whose
// metadata is here.
func (k *catalogue) describeMirror(c *collection, g *gateway.Collection, used map[content.Digest]*gateway.Release) []content.Digest {
	head, all := c.listener.Head(), c.follower.mirror.Releases()
	g.Newest, g.Expires = head.Release, head.Expires
	served := cmp.Or(all.Served, all.Target)
	if served == nil {
		return nil
	}
	d := content.Sum(served.Manifest.Encode())
	g.Served = k.take(c, d, served, used)
	if all.Target != nil && all.Target != served && all.Target.Manifest.Release > served.Manifest.Release {
		g.Next = k.take(c, content.Sum(all.Target.Manifest.Encode()), all.Target, used)
	}
	return slices.DeleteFunc(all.Kept, func(old content.Digest) bool { return old == d })
}

// describeMaster tells what a publisher serves: what it signed last.
func (k *catalogue) describeMaster(c *collection, g *gateway.Collection, used map[content.Digest]*gateway.Release) []content.Digest {
	head := c.master.signer.Head()
	g.Newest, g.Expires = head.Release, head.Expires
	if head.Release == 0 {
		return nil
	}
	r, err := k.load(c, head.Manifest, used)
	if err != nil {
		k.log(c, head.Manifest, err)
		return nil
	}
	g.Served = r
	kept, err := c.master.publisher.Kept()
	if err != nil {
		k.log(c, head.Manifest, err)
	}
	return slices.DeleteFunc(kept, func(old content.Digest) bool { return old == head.Manifest })
}

// load gives a release out of the last picture, or reads it.
func (k *catalogue) load(c *collection, d content.Digest, used map[content.Digest]*gateway.Release) (*gateway.Release, error) {
	if r := k.known(c, d, used); r != nil {
		return r, nil
	}
	r, err := mirror.LoadRelease(c.pack, d)
	if err != nil {
		return nil, err
	}
	return k.take(c, d, r, used), nil
}

// take gives the release of the last picture, so that it stays the same one, or takes this in.
func (k *catalogue) take(c *collection, d content.Digest, r *mirror.Release, used map[content.Digest]*gateway.Release) *gateway.Release {
	if known := k.known(c, d, used); known != nil {
		return known
	}
	used[d] = &gateway.Release{Manifest: r.Manifest, Infos: r.Infos, Blocks: c.pack}
	return used[d]
}

// known finds a release that is in memory. A collection that was opened anew has another pack.
func (k *catalogue) known(c *collection, d content.Digest, used map[content.Digest]*gateway.Release) *gateway.Release {
	r := cmp.Or(used[d], k.releases[d])
	if r == nil || r.Blocks != content.BlockSource(c.pack) {
		return nil
	}
	used[d] = r
	return r
}
