package p2p

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/content/durable"
)

const (
	// maxRemembered and maxRememberedAddrs bound the peers file; the longest seen first.
	maxRemembered, maxRememberedAddrs = 200, 8
	// maxPeersFile is the largest peers file that is read.
	maxPeersFile = 1 << 20
	// rememberFor is how long a peer that was not met again stays in the file.
	rememberFor = 30 * 24 * time.Hour
	// saveEvery is how often the file is written.
	saveEvery = 5 * time.Minute
)

// remembered is a peer in the peers file.
type remembered struct {
	ID    string   `json:"id"`
	Addrs []string `json:"addrs"`
	Seen  int64    `json:"seen"` // unix seconds
}

type peersFile struct {
	Peers []remembered `json:"peers"`
}

// parsePeers reads a peers file and leaves out what it cannot use.
func parsePeers(raw []byte) (map[peer.ID]remembered, error) {
	var f peersFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	known := map[peer.ID]remembered{}
	for _, r := range f.Peers {
		id, err := peer.Decode(r.ID)
		r.Addrs = slices.DeleteFunc(r.Addrs, func(s string) bool {
			a, err := ma.NewMultiaddr(s)
			return err != nil || len(a) == 0
		})
		if err != nil || len(r.Addrs) == 0 || len(known) == maxRemembered {
			continue
		}
		r.ID = id.String()
		r.Addrs = r.Addrs[:min(len(r.Addrs), maxRememberedAddrs)]
		known[id] = r
	}
	return known, nil
}

func (k *keeper) load(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded = true
	if path == "" {
		return nil
	}
	raw, err := readFileLimited(path, maxPeersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	known, err := parsePeers(raw)
	if err == nil {
		k.remembered = known
	}
	return err
}

// someRemembered draws peers to dial, at most every dialEvery.
func (k *keeper) someRemembered(now time.Time, connected func(peer.ID) bool) []peer.AddrInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Before(k.nextDial) {
		return nil
	}
	k.nextDial = now.Add(dialEvery)
	var infos []peer.AddrInfo
	for id, r := range k.remembered {
		if connected(id) {
			continue
		}
		info := peer.AddrInfo{ID: id}
		for _, s := range r.Addrs {
			info.Addrs = append(info.Addrs, ma.StringCast(s)) // parsePeers or String made it
		}
		infos = append(infos, info)
	}
	rand.Shuffle(len(infos), func(i, j int) { infos[i], infos[j] = infos[j], infos[i] })
	return infos[:min(len(infos), maxDials)]
}

// update notes the peers that are connected now and gives the content of the file.
func (k *keeper) update(now time.Time, connected []remembered) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range connected {
		if id, err := peer.Decode(r.ID); err == nil {
			k.remembered[id] = r
		}
	}
	var f peersFile
	for id, r := range k.remembered {
		if r.Seen < now.Add(-rememberFor).Unix() {
			delete(k.remembered, id)
			continue
		}
		f.Peers = append(f.Peers, r)
	}
	slices.SortFunc(f.Peers, func(a, b remembered) int {
		return cmp.Or(cmp.Compare(b.Seen, a.Seen), cmp.Compare(a.ID, b.ID))
	})
	for len(f.Peers) > maxRemembered {
		last := f.Peers[len(f.Peers)-1]
		f.Peers = f.Peers[:len(f.Peers)-1]
		if id, err := peer.Decode(last.ID); err == nil {
			delete(k.remembered, id)
		}
	}
	return json.MarshalIndent(f, "", "\t")
}

// goodPeers lists the connected peers that speak our protocols and can be dialed.
func (h *Host) goodPeers(now time.Time) []remembered {
	var list []remembered
	for _, p := range h.host.Network().Peers() {
		if got, err := h.host.Peerstore().SupportsProtocols(p, chunksProtocol); err != nil || len(got) == 0 || !h.connected(p) {
			continue
		}
		at := func(a ma.Multiaddr) bool { // it comes from there, whatever may be dialed otherwise
			ip, _, _, _ := endpoint(a)
			return slices.ContainsFunc(h.host.Network().ConnsToPeer(p), func(c network.Conn) bool {
				far, _, _, ok := endpoint(c.RemoteMultiaddr())
				return ok && !c.Stat().Limited && far.Equal(ip)
			})
		}
		r := remembered{ID: p.String(), Seen: now.Unix()}
		for _, a := range h.host.Peerstore().Addrs(p) {
			if _, port, _, ok := endpoint(a); ok && port != 0 && len(r.Addrs) < maxRememberedAddrs && (h.peers.bad.dials.allows(p, a) || at(a)) {
				r.Addrs = append(r.Addrs, a.String())
			}
		}
		if len(r.Addrs) > 0 {
			list = append(list, r)
		}
	}
	return list
}

func (h *Host) savePeers() error {
	if h.cfg.PeersFile == "" || h.keeper == nil || !h.keeper.isLoaded() {
		return nil
	}
	now := time.Now()
	raw, err := h.keeper.update(now, h.goodPeers(now))
	if err != nil {
		return err
	}
	if err := durable.WriteFile(h.cfg.PeersFile, raw, 0o600); err != nil {
		return fmt.Errorf("remember peers: %w", err)
	}
	return nil
}

func (k *keeper) isLoaded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loaded
}

func (h *Host) keepPeersFile(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := h.savePeers(); err != nil {
				h.cfg.Log.Warn("the peers were not remembered: look at the disk of the home directory", "file", h.cfg.PeersFile, "error", err)
			}
		}
	}
}
