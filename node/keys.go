package node

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"swarmnode/content/durable"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
)

// renewCommand is what an operator types when metadata has to be signed by the holders of keys.
func renewCommand(name string) string {
	return fmt.Sprintf("`swarmnode publish --prepare request.json --name %s DIR`", name)
}

// acceptSigned takes over what the holders of keys have signed. The result is nil if there is no release in it: then one is made
// with what was signed.
func (n *Node) acceptSigned(ctx context.Context, c *collection, raw []byte, began time.Time) (*control.PublishResult, error) {
	req, err := trust.DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	if err := c.master.publisher.Accept(n.cfg.Now(), req); err != nil {
		return nil, err
	}
	h, ok := req.Release()
	if !ok {
		return nil, nil
	}
	if err := n.announce(ctx, c); err != nil {
		return nil, fmt.Errorf("release %d of %s is signed and kept, but not announced; start the node again: %w", h.Release, c.name(), err)
	}
	return &control.PublishResult{ID: c.id, Name: c.name(), Release: h.Release, Files: h.Files, Bytes: h.Bytes, Addrs: n.Addrs(),
		Seconds: time.Since(began).Seconds()}, nil
}

// Acknowledge ends the alarm of a collection, given by ID or name.
func (n *Node) Acknowledge(name string) error {
	c, r, err := n.named(name)
	if err == nil && c == nil {
		err = fmt.Errorf("%s cannot be opened: `swarmnode status` says why", cmp.Or(r.Name, name))
	}
	if err != nil {
		return err
	}
	was, err := c.listener.Acknowledge()
	if err == nil && !was {
		err = fmt.Errorf("there is no alarm of %s to acknowledge", name)
	}
	if err == nil {
		n.log.Info("an alarm was acknowledged", "collection", c.id)
	}
	return err
}

// KeyRing is the keys of a published collection, for work on them while no node runs with the home directory.
type KeyRing struct {
	Keys   *trust.Keys
	Signer *trust.Signer
	lock   *os.File
}

// KeysDir is where the keys of a published collection are.
func KeysDir(home, name string) string { return filepath.Join(home, keysDir, name) }

// OpenKeyRing takes the home directory and opens the keys of a published collection. The error is ErrHomeBusy if a node runs.
func OpenKeyRing(home, name string) (*KeyRing, error) {
	lock, err := takeHome(home)
	if err != nil {
		return nil, err
	}
	r := &KeyRing{lock: lock}
	if r.Keys, err = trust.OpenKeys(KeysDir(home, name)); err == nil {
		dir := record{ID: r.Keys.ID()}.dir(home)
		if err = durable.MkdirAll(durable.OS{}, dir, 0o700); err == nil {
			r.Signer, err = trust.OpenSigner(r.Keys, filepath.Join(dir, "signer"), trust.Lifetimes{})
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return r, nil
}

// Close gives the home directory back.
func (r *KeyRing) Close() error { return r.lock.Close() }
