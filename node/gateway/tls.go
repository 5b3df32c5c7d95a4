package gateway

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// pairCheck is how often the files of a certificate are looked at, at most: two stats, at a handshake. Chosen.
const pairCheck = time.Second

// keyPair is a certificate with its key that is read again when one of its files changes. A new pair that does not load or does
// not match leaves the old one in use.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex // guards what follows
	pair   *tls.Certificate
	seen   [2]version // of the files when they were last read
	looked time.Time
}

// version tells two contents of a file apart, as well as its directory entry can.
type version struct {
	modified time.Time
	size     int64
}

func loadPair(certFile, keyFile string, log *slog.Logger) (*keyPair, error) {
	p := &keyPair{certFile: certFile, keyFile: keyFile, log: log}
	p.seen = p.versions() // before reading: a change beside it is seen later
	pair, err := p.load()
	if err != nil {
		return nil, fmt.Errorf("%w; it takes PEM files, the certificate first and then its chain", err)
	}
	p.pair, p.looked = pair, time.Now()
	return p, nil
}

func (p *keyPair) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	return &pair, nil
}

// versions is zero for a file that is not there, as for a moment while it is replaced.
func (p *keyPair) versions() (v [2]version) {
	for i, name := range []string{p.certFile, p.keyFile} {
		if st, err := os.Stat(name); err == nil {
			v[i] = version{st.ModTime(), st.Size()}
		}
	}
	return v
}

// get is what crypto/tls asks at each handshake.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.looked) >= pairCheck {
		p.looked = now
		p.refresh()
	}
	return p.pair, nil
}

// refresh reads the files if they changed. A bad pair is told once. The lock is held.
func (p *keyPair) refresh() {
	v := p.versions()
	if v == p.seen {
		return
	}
	p.seen = v
	pair, err := p.load()
	if err != nil {
		p.log.Warn("gateway: the changed certificate is not used, the one before stays: repair the files, they are read again by themselves", "error", err)
		return
	}
	p.pair = pair
	p.log.Info("gateway: the certificate was read again", "file", p.certFile)
}
