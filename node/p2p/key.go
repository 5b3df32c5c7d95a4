package p2p

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"

	"swarmnode/content/durable"
)

// maxKeyBytes bounds what is read as an identity file; an Ed25519 key has 68 bytes.
const maxKeyBytes = 1024

// loadKey reads the identity file, or makes it. An empty path gives a new identity that is forgotten.
func loadKey(path string) (crypto.PrivKey, error) {
	if path == "" {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		return key, err
	}
	raw, err := readFileLimited(path, maxKeyBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil || key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("identity file %s does not hold an Ed25519 key (%v): restore it from a backup, "+
			"or move it away and the node gets a new identity", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("identity file %s can be read by others (mode %#o): run chmod 600 on it", path, info.Mode().Perm())
	}
	return key, nil
}

// makeKey makes an identity and has it on disk before anybody hears of it.
func makeKey(path string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if err := durable.WriteFile(path, raw, 0o600); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	return key, nil
}

func readFileLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
