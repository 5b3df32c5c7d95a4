package mirror

import (
	"fmt"

	"swarmnode/content"
)

// Release is a release whose metadata is here. It does not change.
type Release struct {
	Manifest *content.Manifest
	Infos    []content.SegmentInfo // by segment number
}

// Releases are the releases of which something can be given, at one moment.
type Releases struct {
	Served *Release         // nil as long as nothing is served
	Target *Release         // that is being fetched, once its metadata is here; nil if none
	Kept   []content.Digest // manifests of replaced ones within grace, the newest first
}

// Releases tells which releases are here.
func (m *Mirror) Releases() Releases {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Releases{Served: m.served.public(), Target: m.target.public()}
	for i := len(m.state.Kept) - 1; i >= 0; i-- {
		r.Kept = append(r.Kept, m.state.Kept[i].Manifest)
	}
	return r
}

// Stays reports whether the served release uses a chunk of the mirror: then it is kept for the grace time at least.
func (m *Mirror) Stays(ref content.Ref) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served == nil || int(ref.Segment) >= len(m.served.infos) {
		return false
	}
	s := m.served.infos[ref.Segment]
	return ref.Index < s.Chunks && !s.Dead.Has(ref.Index)
}

func (r *release) public() *Release {
	if r == nil {
		return nil
	}
	return &Release{r.Manifest, r.infos}
}

// LoadRelease reads the manifest and the segment directory of a release whose metadata is in a pack.
func LoadRelease(pack content.BlockSource, manifest content.Digest) (*Release, error) {
	data, ok := pack.Block(manifest)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{manifest}}
	}
	man, err := content.DecodeManifest(data)
	if err != nil {
		return nil, err
	}
	infos, err := content.LoadDirectory(man.Directory, pack)
	if err != nil {
		return nil, fmt.Errorf("segment directory of release %d: %w", man.Release, err)
	}
	return &Release{man, infos}, nil
}
