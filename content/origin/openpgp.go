package origin

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// maxKeyringBytes is how long a keyring may be: all keys of Debian's archive have 60 KB.
	maxKeyringBytes = 16 << 20
	// maxKeyBlocks is how many armored blocks of keys a file may have: what is between them is looked at once for each.
	maxKeyBlocks = 256
	// maxSignatures is how many signatures of one text are tried: Debian's have three.
	maxSignatures = 16
	// maxSignatureBytes is how long a detached signature may be.
	maxSignatureBytes = 1 << 20
)

// beginSigned starts a text with its signature in it (RFC 9580, section 7).
const beginSigned = "-----BEGIN PGP SIGNED MESSAGE-----"

// keyring has the keys that a repository may be signed with.
type keyring struct {
	file string
	data []byte
	keys openpgp.EntityList
}

// readKeyring reads a file of OpenPGP keys, binary or armored, also several armored blocks one after the other.
func readKeyring(file string) (*keyring, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, &RefusedError{Reason: "open the keyring", Cause: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyringBytes+1))
	if err != nil {
		return nil, &RefusedError{Reason: "read the keyring " + file, Cause: err}
	}
	keys, err := parseKeys(data)
	if err != nil || len(keys) == 0 {
		return nil, &RefusedError{Reason: fmt.Sprintf("the keyring %s has no OpenPGP key that can be read: what is wanted is what gpg --export writes, or a file of /usr/share/keyrings", file), Cause: err}
	}
	return &keyring{file: file, data: data, keys: keys}, nil
}

func parseKeys(data []byte) (openpgp.EntityList, error) {
	if len(data) > maxKeyringBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyringBytes)
	}
	if !bytes.Contains(data, []byte("-----BEGIN PGP")) {
		return openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	var all openpgp.EntityList
	r := bytes.NewReader(data)
	for range maxKeyBlocks {
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		keys, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		// What the armor's reader has read too far is looked at again.
		rest, ok := afterArmor(data)
		if !ok {
			return all, nil
		}
		data = rest
		r = bytes.NewReader(data)
	}
	return nil, fmt.Errorf("it has more than %d blocks: gpg --dearmor makes one of them", maxKeyBlocks)
}

// afterArmor gives what follows the first armored block, if that is another one.
func afterArmor(data []byte) ([]byte, bool) {
	begin := max(bytes.Index(data, []byte("-----BEGIN PGP")), 0)
	end := bytes.Index(data[begin:], []byte("-----END PGP"))
	if end < 0 {
		return nil, false
	}
	rest := data[begin+end+1:]
	return rest, bytes.Contains(rest, []byte("-----BEGIN PGP"))
}

// hold says whether all keys of a file are of the keyring.
func (k *keyring) hold(data []byte) error {
	keys, err := parseKeys(data)
	if err != nil || len(keys) == 0 {
		return errors.New("no key can be read in it")
	}
	for _, e := range keys {
		if !slices.ContainsFunc(k.keys, func(of *openpgp.Entity) bool {
			return bytes.Equal(of.PrimaryKey.Fingerprint, e.PrimaryKey.Fingerprint)
		}) {
			return fmt.Errorf("the keyring %s has not the key %016X in it: with a keyring it is left out", k.file, e.PrimaryKey.KeyId)
		}
	}
	return nil
}

// splitSigned gives the text of a clearsigned file and its signature. Nothing may be around it: a reader that takes the wrong part
// would believe what nobody signed.
func splitSigned(data []byte) (text, signed, signature []byte, err error) {
	if !bytes.HasPrefix(data, []byte(beginSigned)) {
		return nil, nil, nil, errors.New("it is not a clearsigned text")
	}
	block, rest := clearsign.Decode(data)
	switch {
	case block == nil:
		return nil, nil, nil, errors.New("its signature is malformed, or cut off")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, nil, nil, errors.New("something follows its signature")
	}
	signature, err = io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, maxSignatureBytes))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("its signature is malformed: %w", err)
	}
	return block.Plaintext, block.Bytes, signature, nil
}

// dearmor gives a detached signature in binary form.
func dearmor(signature []byte) ([]byte, error) {
	if !bytes.Contains(signature, []byte("-----BEGIN PGP")) {
		return signature, nil
	}
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(block.Body, maxSignatureBytes))
}

// check says whether one of the signatures of data, in binary form, is good: made by a key of the keyring that may sign and has
// neither expired nor been revoked, over a hash that holds. what names the file in errors.
func (k *keyring) check(what string, data, signature []byte, now time.Time) error {
	config := &packet.Config{Time: func() time.Time { return now }}
	var why []string
	packets := packet.NewReader(bytes.NewReader(signature))
	for range maxSignatures {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if unsupported := pgperrors.UnsupportedError(""); errors.As(err, &unsupported) {
			why = append(why, err.Error())
			continue
		}
		if err != nil {
			why = append(why, "the signature is malformed: "+err.Error())
			break
		}
		sig, ok := p.(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			why = append(why, "a packet that is not a signature, or does not say whose")
			continue
		}
		err = k.one(data, sig, config)
		if err == nil {
			return nil
		}
		why = append(why, err.Error())
	}
	if len(why) == 0 {
		why = []string{"there is no signature in it"}
	}
	slices.Sort(why)
	return &RefusedError{Reason: fmt.Sprintf("%s: no good signature (%s); the keyring %s has %s. If the repository has a new key, get it from its owner by a way that you trust, and add it to the keyring",
		what, strings.Join(slices.Compact(why), "; "), k.file, k.names())}
}

// one checks one signature.
func (k *keyring) one(data []byte, sig *packet.Signature, config *packet.Config) error {
	id := fmt.Sprintf("%016X", *sig.IssuerKeyId)
	if sig.Hash == crypto.MD5 || sig.Hash == crypto.SHA1 || sig.Hash == crypto.RIPEMD160 {
		return fmt.Errorf("key %s signed with %v, which can be forged", id, sig.Hash)
	}
	var raw bytes.Buffer
	if err := sig.Serialize(&raw); err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	_, _, err := openpgp.VerifyDetachedSignature(k.keys, bytes.NewReader(data), &raw, config)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fmt.Errorf("key %s is not in the keyring", id)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Errorf("key %s has expired", id)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return fmt.Errorf("key %s has been revoked", id)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return fmt.Errorf("the signature of key %s has expired", id)
	}
	return fmt.Errorf("key %s: the signature is not of this text: %w", id, err)
}

// names are the keys of the ring, for people.
func (k *keyring) names() string {
	const most = 8 // more say nothing
	var ids []string
	for _, e := range k.keys {
		ids = append(ids, fmt.Sprintf("%016X", e.PrimaryKey.KeyId))
	}
	if len(ids) > most {
		ids = append(ids[:most], fmt.Sprintf("%d more", len(ids)-most))
	}
	return strings.Join(ids, ", ")
}
