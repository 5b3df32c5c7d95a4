package gossip

import (
	"fmt"
	"unicode/utf8"

	"swarmnode/content"
)

const (
	// MaxClaims is the most collections that a node says it publishes.
	MaxClaims = 64
	// MaxClaimsSize is the largest encoded list of claims, in bytes.
	MaxClaimsSize = 64 << 10
	// MaxPeerID is the longest text form of a peer ID, in bytes; those of Ed25519 keys have 52.
	MaxPeerID = 128
	// maxSignature is room for the signature of any key type of TUF, in bytes.
	maxSignature = 1024
	// maxKeyID is room for the hexadecimal SHA-256 that TUF uses, in bytes.
	maxKeyID = 64
)

// claimDomain keeps signatures of claims apart from all other signatures of the same key.
const claimDomain = "swarmnode claim"

// claimBlock is the encoded form of a claim.
type claimBlock struct {
	_          struct{} `cbor:",toarray"`
	Version    uint64
	Collection content.Digest
	Name       string
	Release    uint64
	Peer       string
	Expires    int64
	KeyID      string
	Signature  []byte
}

// SignedBytes is what the signature of a claim is over: everything but the signature and the key's ID.
func (c Claim) SignedBytes() []byte {
	return content.Encode([]any{
		claimDomain, uint64(content.Version), content.Digest(c.Collection), c.Name, c.Release, string(c.Peer), c.Expires,
	})
}

// EncodeClaims gives the bytes of a list of claims.
func EncodeClaims(claims []Claim) ([]byte, error) {
	if len(claims) > MaxClaims {
		return nil, fmt.Errorf("encode claims: %d, at most %d are allowed", len(claims), MaxClaims)
	}
	blocks := make([]claimBlock, len(claims))
	for i, c := range claims {
		if err := checkClaim(c); err != nil {
			return nil, fmt.Errorf("encode claims: %w", err)
		}
		blocks[i] = claimBlock{Version: content.Version, Collection: content.Digest(c.Collection), Name: c.Name,
			Release: c.Release, Peer: string(c.Peer), Expires: c.Expires, KeyID: c.KeyID, Signature: c.Signature}
	}
	raw := content.Encode(blocks)
	if len(raw) > MaxClaimsSize {
		return nil, fmt.Errorf("encode claims: %d bytes, at most %d are allowed", len(raw), MaxClaimsSize)
	}
	return raw, nil
}

// DecodeClaims reads what EncodeClaims writes. Claims of a later version are left out. Signatures are not checked.
func DecodeClaims(raw []byte) ([]Claim, error) {
	var blocks []claimBlock
	if err := content.Decode(raw, MaxClaimsSize, &blocks); err != nil {
		return nil, fmt.Errorf("claims: %w: %w", ErrMalformed, err)
	}
	if len(blocks) > MaxClaims {
		return nil, fmt.Errorf("claims: %w: %d of them, at most %d are allowed", ErrMalformed, len(blocks), MaxClaims)
	}
	claims := make([]Claim, 0, len(blocks))
	for _, b := range blocks {
		c := Claim{Collection: content.ID(b.Collection), Name: b.Name, Release: b.Release, Peer: PeerID(b.Peer),
			Expires: b.Expires, KeyID: b.KeyID, Signature: b.Signature}
		if b.Version > content.Version {
			continue
		}
		if b.Version != content.Version {
			return nil, fmt.Errorf("claims: %w: format version %d", ErrMalformed, b.Version)
		}
		if err := checkClaim(c); err != nil {
			return nil, fmt.Errorf("claims: %w", err)
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func checkClaim(c Claim) error {
	if c.Name == "" || len(c.Name) > content.MaxName || !utf8.ValidString(c.Name) {
		return fmt.Errorf("%w: claim for a collection named %.80q", ErrMalformed, c.Name)
	}
	if !isPeerID(c.Peer) || c.Collection.IsZero() || c.Expires < 0 {
		return fmt.Errorf("%w: claim without a peer, a collection or a time", ErrMalformed)
	}
	if len(c.KeyID) > maxKeyID || !isPrintable(c.KeyID) || len(c.Signature) > maxSignature {
		return fmt.Errorf("%w: claim with a key ID of %d and a signature of %d bytes", ErrMalformed, len(c.KeyID), len(c.Signature))
	}
	return nil
}

// isPeerID looks only at the alphabet: letters and digits, as in base58 and base32.
func isPeerID(p PeerID) bool {
	for i := range len(p) {
		c := p[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return len(p) > 0 && len(p) <= MaxPeerID
}

// isPrintable reports whether s is ASCII without blanks and control characters.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
