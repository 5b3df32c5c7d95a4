package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"swarmnode/content"
)

const (
	// maxStatus bounds the status of another gateway, in bytes: about 5,000 collections.
	maxStatus = 1 << 20
	// maxProbeHeader bounds the headers of its answers; ours have about 1 KiB, with Link headers 3 KiB.
	maxProbeHeader = 16 << 10
	// maxProbeHops is how many redirects at the same host are followed: from a name to an ID, from a directory to its slash.
	maxProbeHops = 3
	// maxDials is how many connections to one address are made in checkEvery: enough for ten gateways in one house.
	maxDials = 20
	// maxGatewayURL is the longest URL that a member record can hold (gossip.Member).
	maxGatewayURL = 128
	// sampleSize is how many bytes are compared where the chunk is here: a few packets.
	sampleSize = 16 << 10
	// pickTries is how often a way down the tree may end in an empty directory before the release counts as one without files.
	pickTries = 32
)

// urlLetters are what the URL of a gateway may hold. More is allowed in URLs, but not everywhere that this one is written to.
const urlLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-/:[]_~%"

// errWrongBytes says that a gateway gave other bytes than the release has.
var errWrongBytes = errors.New("it gave wrong bytes")

// prober asks other gateways over HTTP.
type prober struct {
	client *http.Client
	now    func() time.Time
}

func newProber(allowPrivate bool, now func() time.Time) *prober {
	dialer := &net.Dialer{Timeout: checkTimeout / 2}
	if !allowPrivate {
		asked := &dials{}
		// Checked is what is dialed, not what the name said: a name can mean one address now and another one later.
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil || content.PrivateAddr(a.Addr()) {
				return fmt.Errorf("%s is not a public address", address)
			}
			if !asked.allow(now(), a.Addr()) {
				return fmt.Errorf("%s was asked often enough for now", address)
			}
			return nil
		}
	}
	return &prober{now: now, client: &http.Client{
		Transport: &http.Transport{ // without a proxy, which would be the one to dial
			DialContext: dialer.DialContext, MaxResponseHeaderBytes: maxProbeHeader, DisableCompression: true,
			ForceAttemptHTTP2: true, MaxIdleConns: checkAtOnce, IdleConnTimeout: 5 * time.Second, // less than checkAgain: each check measures a new connection
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			first := via[0].URL
			if len(via) > maxProbeHops || r.URL.Host != first.Host || r.URL.Scheme != first.Scheme {
				return fmt.Errorf("redirected to %s, which is not followed", r.URL.Redacted())
			}
			return nil
		},
	}}
}

// dials counts connections by address: however many names records give to one machine, which may have nothing to do with it, no node
// sends it more than a few requests.
type dials struct {
	mu    sync.Mutex // guards the rest
	since time.Time
	by    map[netip.Prefix]int
}

// allow counts a connection to a.
func (d *dials) allow(now time.Time, a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil || now.Sub(d.since) >= checkEvery || now.Before(d.since) {
		d.since, d.by = now, map[netip.Prefix]int{}
	}
	at := network(a, 32, 64)
	if d.by[at] >= maxDials {
		return false
	}
	d.by[at]++
	return true
}

// cleanGateway gives the form of a gateway's URL in which it is compared and named to clients: with "/" at the end. It refuses all
// that could not stand in a header, a list or a configuration file as it is.
func cleanGateway(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxGatewayURL {
		return "", errors.New("not the URL of a gateway")
	}
	// The host as well, of which %80 and its like have been decoded by now.
	if strings.ContainsFunc(raw+u.Host, func(r rune) bool { return !strings.ContainsRune(urlLetters, r) }) {
		return "", errors.New("URL of a gateway with other letters than plain ones")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL of a gateway is http://host or https://host, then a port and a path if it has them")
	}
	u.Host = strings.ToLower(u.Host)
	s := u.Scheme + "://" + u.Host + u.EscapedPath()
	if !strings.HasSuffix(s, "/") {
		s += "/"
	}
	return s, nil
}

// probe checks one gateway against the collection as it is served here.
func (p *prober) probe(ctx context.Context, root string, c *Collection, rng *rand.Rand) (Mirror, error) {
	var rtt connectTime
	ctx = httptrace.WithClientTrace(ctx, rtt.trace())
	release := c.Served.Manifest.Release
	if err := p.status(ctx, root, c, release); err != nil {
		return Mirror{}, err
	}
	part, err := pick(c.Served, rng)
	if err == nil && part.size > 0 {
		part.narrow(ctx, c, rng)
		err = p.compare(ctx, root+url.PathEscape(c.Name)+"/"+escapePath(part.path), part)
	}
	if err != nil {
		return Mirror{}, err
	}
	return Mirror{URL: root, Release: release, RTT: rtt.least(), Checked: p.now()}, nil
}

func (p *prober) get(ctx context.Context, url, span string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "swarmnode-check")
	if span != "" {
		r.Header.Set("Range", span)
	}
	return p.client.Do(r)
}

// status asks which release a gateway says it serves.
func (p *prober) status(ctx context.Context, root string, c *Collection, release uint64) error {
	res, err := p.get(ctx, root+"-/status.json", "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("its status is answered with %s", res.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxStatus+1))
	if err != nil {
		return err
	}
	says, err := decodeStatus(raw, c.ID)
	if err != nil {
		return err
	}
	if says.Release != release {
		return fmt.Errorf("it serves release %d, here it is %d", says.Release, release)
	}
	if !says.Expires.IsZero() && !p.now().Before(says.Expires) {
		return fmt.Errorf("what it knows of the release has expired at %s", says.Expires)
	}
	return nil
}

// gatewayStatus is what a gateway says of a collection in /-/status.json; more is ignored.
type gatewayStatus struct {
	ID      string    `json:"id"`
	Release uint64    `json:"release"`
	Expires time.Time `json:"expires"`
}

// decodeStatus finds a collection in what another gateway says of itself.
func decodeStatus(raw []byte, id content.ID) (gatewayStatus, error) {
	if len(raw) > maxStatus {
		return gatewayStatus{}, fmt.Errorf("its status has more than %d bytes", maxStatus)
	}
	var all struct {
		Collections []gatewayStatus `json:"collections"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return gatewayStatus{}, fmt.Errorf("its status: %w", err)
	}
	for _, s := range all.Collections {
		if s.ID == id.String() {
			return s, nil
		}
	}
	return gatewayStatus{}, errors.New("it does not have the collection")
}

// part is a chunk of a file: what is asked of another gateway.
type part struct {
	path   string
	of     uint64 // size of the file
	offset uint64
	size   uint64 // 0: the release has no file with bytes
	digest content.Digest
	ref    content.Ref // of the chunk
}

// narrow makes a part smaller if its chunk is here to compare with: by its hash only a whole chunk can be told right.
func (p *part) narrow(ctx context.Context, c *Collection, rng *rand.Rand) {
	if p.size <= sampleSize || !c.Source.Here(p.ref) {
		return
	}
	data, err := c.Source.Chunk(ctx, c.Served, p.ref, nil)
	if err != nil || uint64(len(data)) != p.size {
		return
	}
	from := rng.Uint64N(p.size - sampleSize + 1)
	p.offset, p.size, p.digest = p.offset+from, sampleSize, content.Sum(data[from:from+sampleSize])
}

// pick chooses a random chunk of a random file: it goes down the tree by chance, so that small directories are seen as well as large ones.
func pick(rel *Release, rng *rand.Rand) (part, error) {
	for range pickTries {
		dir := ""
		for {
			entries, err := content.List(rel.Manifest.Tree, rel.Blocks, dir)
			if err != nil {
				return part{}, fmt.Errorf("list %q: %w", dir, err)
			}
			if len(entries) == 0 {
				break
			}
			e := entries[rng.IntN(len(entries))]
			if e.IsFile() && e.Size > 0 {
				return pickChunk(rel, e, rng)
			}
			if !e.IsDir() {
				break
			}
			dir = e.Path
		}
	}
	return part{}, nil
}

func pickChunk(rel *Release, e content.Entry, rng *rand.Rand) (part, error) {
	l, err := newLayout(rel, e)
	if err != nil {
		return part{}, err
	}
	p := l.place(rng.IntN(l.chunks()))
	t, err := loadTable(rel, p.ref.Segment)
	if err != nil {
		return part{}, err
	}
	return part{path: e.Path, of: e.Size, offset: uint64(p.at), size: uint64(p.size), digest: t.Chunk(p.ref.Index).Digest, ref: p.ref}, nil
}

// compare fetches a part and looks whether it is right.
func (p *prober) compare(ctx context.Context, url string, want part) error {
	last := want.offset + want.size - 1
	res, err := p.get(ctx, url, fmt.Sprintf("bytes=%d-%d", want.offset, last))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("a range of %s is answered with %s", want.path, res.Status)
	}
	if got, right := res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", want.offset, last, want.of); got != right {
		return fmt.Errorf("%w: Content-Range of %s is %q, asked for %q", errWrongBytes, want.path, got, right)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, int64(want.size)+1))
	if err != nil {
		return err
	}
	if content.Sum(data) != want.digest {
		return fmt.Errorf("%w: %d bytes at %d of %s", errWrongBytes, want.size, want.offset, want.path)
	}
	return nil
}

// connectTime measures how long connections take to come up: a round trip, and nothing of what the other side does with a request.
type connectTime struct {
	mu    sync.Mutex // guards the rest
	begun map[string]time.Time
	rtt   time.Duration
}

func (t *connectTime) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectStart: func(_, addr string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.begun == nil {
				t.begun = map[string]time.Time{}
			}
			t.begun[addr] = time.Now()
		},
		ConnectDone: func(_, addr string, err error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if took := time.Since(t.begun[addr]); err == nil && (t.rtt == 0 || took < t.rtt) {
				t.rtt = took
			}
		},
	}
}

func (t *connectTime) least() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rtt
}
