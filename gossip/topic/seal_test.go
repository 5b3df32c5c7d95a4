package topic

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"swarmnode/gossip"
)

func newKey(t testing.TB) (crypto.PrivKey, gossip.PeerID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, gossip.PeerID(id.String())
}

func TestSealMember(t *testing.T) {
	key, id := newKey(t)
	_, other := newKey(t)
	m := gossip.Member{
		Collection: testID, Peer: id, Disk: 1 << 40, Release: 1234, Complete: true,
		Gateway: "https://mirror.volunteer.example:8443/", Issued: 1_700_000_000,
		Addrs: []string{
			"/ip4/203.0.113.7/tcp/4101/p2p/" + string(id),
			"/ip4/203.0.113.7/udp/4101/quic-v1",
			"/ip6/2001:db8:1:2:3:4:5:6/tcp/4101",
			"/ip6/2001:db8:1:2:3:4:5:6/udp/4101/quic-v1",
			"/ip4/203.0.113.9/tcp/4101/p2p/" + string(other) + "/p2p-circuit",
			"/ip4/198.51.100.77/tcp/4101",
		},
	}
	sealed, err := SealMember(key, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenMember(sealed)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes with %d addresses", len(sealed), len(got.Addrs))
	if len(sealed) > gossip.MaxSealedMember {
		t.Errorf("%d bytes, at most %d are allowed", len(sealed), gossip.MaxSealedMember)
	}
	if len(got.Addrs) < 4 || got.Addrs[0] != "/ip4/203.0.113.7/tcp/4101" || got.Addrs[3] != m.Addrs[3] {
		t.Errorf("addresses %q", got.Addrs)
	}
	want := m
	want.Addrs = got.Addrs
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSealMemberRefuses(t *testing.T) {
	key, _ := newKey(t)
	_, other := newKey(t)
	for name, m := range map[string]gossip.Member{
		"another peer":  {Collection: testID, Peer: other},
		"no collection": {},
		"long gateway":  {Collection: testID, Gateway: string(bytes.Repeat([]byte{'a'}, 128))},
		"no address":    {Collection: testID, Addrs: []string{"203.0.113.7:4101"}},
	} {
		sealed, err := SealMember(key, m)
		if name == "long gateway" && err == nil && len(sealed) <= gossip.MaxSealedMember {
			continue
		}
		if err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

func TestOpenMemberRefusesEveryChangedByte(t *testing.T) {
	key, _ := newKey(t)
	sealed, err := SealMember(key, gossip.Member{Collection: testID, Addrs: []string{"/ip4/203.0.113.7/tcp/4101"}, Issued: 5})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if m, err := OpenMember(bad); !errors.Is(err, gossip.ErrMalformed) {
			t.Errorf("byte %d changed: %+v, %v", i, m, err)
		}
	}
	if _, err := OpenMember(append(bytes.Clone(sealed), 0x78, 0)); !errors.Is(err, gossip.ErrMalformed) { // an unknown field
		t.Errorf("twin of the same record: %v", err)
	}
	if _, err := OpenMember(make([]byte, gossip.MaxSealedMember+1)); !errors.Is(err, gossip.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzOpenMember(f *testing.F) {
	key, _ := newKey(f)
	sealed, err := SealMember(key, gossip.Member{Collection: testID, Addrs: []string{"/ip4/203.0.113.7/tcp/4101"}, Issued: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := OpenMember(raw)
		if err == nil && m.Peer == "" {
			t.Error("a record without a peer")
		}
	})
}
