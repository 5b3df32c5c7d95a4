package topic

import (
	"bytes"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// memberRecord is the payload of a sealed member record: gossip's encoding with the addresses in their binary form and
// without the peer ID, which the seal's public key gives. A record has 300 bytes, and these two would be half of them.
type memberRecord struct{ raw []byte }

// Domain keeps seals of member records apart from all other signatures of the host's key.
func (*memberRecord) Domain() string { return "swarmnode-member" }

// Codec names the kind of payload. It is short because it is part of every record.
func (*memberRecord) Codec() []byte { return []byte("swm1") }

// MarshalRecord gives the payload.
func (r *memberRecord) MarshalRecord() ([]byte, error) { return r.raw, nil }

// UnmarshalRecord takes the payload.
func (r *memberRecord) UnmarshalRecord(b []byte) error {
	r.raw = bytes.Clone(b)
	return nil
}

// SealMember signs a member record with the host's key. m.Peer is the ID of that key, or empty. Addresses lose the host's
// own /p2p part; those for which there is no room in 300 bytes are left out, the later ones first.
func SealMember(key crypto.PrivKey, m gossip.Member) ([]byte, error) {
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("seal member record: %w", err)
	}
	if m.Peer != "" && m.Peer != gossip.PeerID(self.String()) {
		return nil, fmt.Errorf("seal member record of %s with the key of %s", m.Peer, self)
	}
	m.Peer = ""
	texts := m.Addrs
	m.Addrs = nil
	sealed, err := seal(key, m)
	if err != nil {
		return nil, fmt.Errorf("seal member record: %w", err)
	}
	if len(sealed) > gossip.MaxSealedMember {
		return nil, fmt.Errorf("seal member record: %d bytes without any address, at most %d are allowed: use a shorter gateway URL",
			len(sealed), gossip.MaxSealedMember)
	}
	for _, text := range texts {
		packed, err := packAddr(text, self)
		if err != nil {
			return nil, fmt.Errorf("seal member record: %w", err)
		}
		if len(m.Addrs) == gossip.MaxAddrs || len(packed) == 0 || len(packed) > gossip.MaxAddr {
			continue
		}
		with := m
		with.Addrs = append(m.Addrs[:len(m.Addrs):len(m.Addrs)], packed)
		longer, err := seal(key, with)
		if err != nil {
			return nil, fmt.Errorf("seal member record: %w", err)
		}
		if len(longer) <= gossip.MaxSealedMember {
			sealed, m = longer, with
		}
	}
	return sealed, nil
}

func seal(key crypto.PrivKey, m gossip.Member) ([]byte, error) {
	raw, err := gossip.EncodeMember(m)
	if err != nil {
		return nil, err
	}
	env, err := record.Seal(&memberRecord{raw: raw}, key)
	if err != nil {
		return nil, err
	}
	return env.Marshal()
}

// packAddr gives the binary form of an address, without the /p2p part that names the host itself.
func packAddr(text string, self peer.ID) (string, error) {
	a, err := ma.NewMultiaddr(text)
	if err != nil {
		return "", err
	}
	if rest, last := ma.SplitLast(a); last != nil && last.Protocol().Code == ma.P_P2P && last.Value() == self.String() {
		a = rest
	}
	return string(a.Bytes()), nil
}

// OpenMember checks the seal of a member record and gives it, with the signer as its peer. Errors wrap
// [gossip.ErrMalformed] or are a content.NewerError.
func OpenMember(sealed []byte) (gossip.Member, error) {
	if len(sealed) > gossip.MaxSealedMember {
		return gossip.Member{}, fmt.Errorf("member record: %w: %d bytes", gossip.ErrMalformed, len(sealed))
	}
	var rec memberRecord
	env, err := record.ConsumeTypedEnvelope(sealed, &rec)
	if err != nil {
		return gossip.Member{}, fmt.Errorf("member record: %w: %w", gossip.ErrMalformed, err)
	}
	// Protobuf has many encodings of one value; only one is a member record, or each could be sent on in many copies.
	if again, err := env.Marshal(); guard.On(guard.OneSeal) && (err != nil || !bytes.Equal(again, sealed)) {
		return gossip.Member{}, fmt.Errorf("member record: %w: not the usual encoding", gossip.ErrMalformed)
	}
	m, err := gossip.DecodeMember(rec.raw)
	if err != nil {
		return gossip.Member{}, err
	}
	signer, err := peer.IDFromPublicKey(env.PublicKey)
	if err != nil || m.Peer != "" {
		return gossip.Member{}, fmt.Errorf("member record: %w: the peer is not named by the seal alone", gossip.ErrMalformed)
	}
	m.Peer = gossip.PeerID(signer.String())
	for i, packed := range m.Addrs {
		a, err := ma.NewMultiaddrBytes([]byte(packed))
		if err != nil {
			return gossip.Member{}, fmt.Errorf("member record: %w: address: %w", gossip.ErrMalformed, err)
		}
		m.Addrs[i] = a.String()
	}
	return m, nil
}
