package publish

import (
	"errors"
	"fmt"
	"time"

	"swarmnode/gossip/trust"
)

// errNothingToSign says that there is nothing to ask the holders of keys for.
var errNothingToSign = errors.New("all keys that are needed are here: publish without --prepare")

// Accept takes over a request that the holders of keys have signed. The release in it, if there is one, is the newest one then; the
// caller announces it. What Publish would tidy up after it is left to the next Publish.
func (p *Publisher) Accept(now time.Time, req *trust.Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changing.Lock()
	defer p.changing.Unlock()
	if h, ok := req.Release(); ok && !p.cfg.Pack.Has(h.Manifest) {
		return fmt.Errorf("release %d was not prepared in this home directory, or its content is gone: prepare it again", h.Release)
	}
	if err := p.cfg.Signer.Accept(now, req); err != nil {
		return fmt.Errorf("publish what was signed: %w", err)
	}
	return nil
}
