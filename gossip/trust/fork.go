package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"swarmnode/gossip"
)

// ForkError is the proof that the publisher's keys signed two different things under one number: somebody else has them, or
// the publisher went on from an old backup. It is gossip.ErrFork.
type ForkError struct {
	Name  string // what there are two of: "timestamp.json", "3.snapshot.json", "release 3"
	Here  string // SHA-256 (of a release: its manifest) of the one that was here first
	There string // of the other
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("%s is %s here and %s there: %v", e.Name, e.Here, e.There, gossip.ErrFork)
}

// Is makes the error one of gossip.ErrFork.
func (e *ForkError) Is(target error) bool { return target == gossip.ErrFork }

func fork(name string, here, there []byte) error {
	return &ForkError{Name: name, Here: digestOf(here), There: digestOf(there)}
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
