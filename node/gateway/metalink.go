package gateway

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"swarmnode/content"
)

const (
	// maxPieces bounds the piece hashes in a metalink: 80 bytes each, 330 KB.
	maxPieces = 4096
	// maxAlternates bounds the older hashes in a metalink of version 3: those of the last releases.
	maxAlternates = 8
)

// meta4 is a metalink of version 4 (RFC 5854).
type meta4 struct {
	XMLName   xml.Name  `xml:"urn:ietf:params:xml:ns:metalink metalink"`
	Generator string    `xml:"generator"`
	Published string    `xml:"published"`
	File      meta4File `xml:"file"`
}

type meta4File struct {
	Name   string       `xml:"name,attr"`
	Size   uint64       `xml:"size"`
	Hash   typedHash    `xml:"hash"`
	Pieces *meta4Pieces `xml:"pieces"`
	URLs   []meta4URL   `xml:"url"`
}

type typedHash struct {
	Type  string `xml:"type,attr"`
	Value string `xml:",chardata"`
}

type meta4Pieces struct {
	Length uint64   `xml:"length,attr"`
	Type   string   `xml:"type,attr"`
	Hashes []string `xml:"hash"`
}

type meta4URL struct {
	Priority int    `xml:"priority,attr"`
	URL      string `xml:",chardata"`
}

// metalink4 describes a file at the sites. Where the address of no site is known the URL is relative to the metalink, which
// aria2 resolves.
func (g *Gateway) metalink4(c *Collection, rel *Release, e content.Entry, p string, sites []site) []byte {
	m := meta4{Generator: "swarmnode", Published: time.Unix(rel.Manifest.Created, 0).UTC().Format(time.RFC3339), File: meta4File{
		Name: path.Base(p), Size: e.Size, Hash: typedHash{"sha-256", e.SHA256.String()}, Pieces: g.metalinkPieces(c, rel, e)}}
	for i, at := range sites {
		m.File.URLs = append(m.File.URLs, meta4URL{i + 1, at.file(p)})
	}
	if len(sites) == 0 {
		m.File.URLs = []meta4URL{{1, beside(p)}}
	}
	return xmlDocument(m)
}

// metalinkPieces gives hashes of the parts of a file, by which a client finds out which of several gateways sent a wrong one. They cost
// nothing if the file's chunks are all of one size, or if its torrent was asked for.
func (g *Gateway) metalinkPieces(c *Collection, rel *Release, e content.Entry) *meta4Pieces {
	if length, digests := g.equalChunks(rel, e); digests != nil {
		p := &meta4Pieces{Length: length, Type: "sha-256"}
		for _, d := range digests {
			p.Hashes = append(p.Hashes, d.String())
		}
		return p
	}
	if hashes, ok := g.pieces.known(c, e); ok && len(hashes) <= maxPieces*pieceHash {
		p := &meta4Pieces{Length: pieceLength(e.Size), Type: "sha-1"}
		for ; len(hashes) > 0; hashes = hashes[pieceHash:] {
			p.Hashes = append(p.Hashes, fmt.Sprintf("%x", hashes[:pieceHash]))
		}
		return p
	}
	return nil
}

// equalChunks gives the digests of a file's chunks if all but the last have the same length and there are not too many.
func (g *Gateway) equalChunks(rel *Release, e content.Entry) (length uint64, digests []content.Digest) {
	if e.Size > maxPieces*content.MaxChunkSize {
		return 0, nil // they are too many
	}
	l, err := g.layout(context.Background(), rel, e) // of such a size it waits for nothing
	if err != nil || l.chunks() < 2 || l.chunks() > maxPieces {
		return 0, nil
	}
	size := l.place(0).size
	for n := range l.chunks() {
		if p := l.place(n); p.at != int64(n)*size || p.size > size {
			return 0, nil
		}
	}
	for _, run := range l.runs {
		t, err := loadTable(rel, run.Segment)
		if err != nil {
			return 0, nil
		}
		for i := range run.Count {
			digests = append(digests, t.Chunk(run.First+i).Digest)
		}
	}
	return uint64(size), digests
}

// meta3 is a metalink of version 3 as MirrorManager writes it and librepo (dnf) reads it: by the literal names, with mm0 as the
// prefix of what is not in Metalink 3.0.
type meta3 struct {
	XMLName   xml.Name  `xml:"metalink"`
	Version   string    `xml:"version,attr"`
	Namespace string    `xml:"xmlns,attr"`
	MM0       string    `xml:"xmlns:mm0,attr"`
	Type      string    `xml:"type,attr"`
	Published string    `xml:"pubdate,attr"`
	Generator string    `xml:"generator,attr"`
	File      meta3File `xml:"files>file"`
}

type meta3File struct {
	Name string `xml:"name,attr"`
	meta3Version
	Alternates *meta3Alternates `xml:"mm0:alternates"`
	URLs       []meta3URL       `xml:"resources>url"`
}

// meta3Version is one version of a file.
type meta3Version struct {
	Timestamp int64     `xml:"mm0:timestamp"`
	Size      uint64    `xml:"size"`
	Hash      typedHash `xml:"verification>hash"`
}

type meta3Alternates struct {
	List []meta3Version `xml:"mm0:alternate"`
}

type meta3URL struct {
	Protocol   string `xml:"protocol,attr,omitempty"`
	Type       string `xml:"type,attr,omitempty"`
	Preference int    `xml:"preference,attr"` // 100 is best, 1 last
	URL        string `xml:",chardata"`
}

// metalink3 describes a file. Its versions in the other releases that are served or kept are named as well: librepo tries
// all mirrors and fails when a hash is not among those named, which would be so for a client that asks in the moment of a switch.
func (g *Gateway) metalink3(c *Collection, rel *Release, e content.Entry, p string, sites []site) []byte {
	m := meta3{Version: "3.0", Namespace: "http://www.metalinker.org/", MM0: "http://fedorahosted.org/mirrormanager", Type: "dynamic",
		Published: time.Unix(rel.Manifest.Created, 0).UTC().Format(http.TimeFormat), Generator: "swarmnode"}
	m.File = meta3File{Name: path.Base(p), meta3Version: version3(e)}
	seen := map[content.Digest]bool{e.SHA256: true}
	for _, k := range append([]*Release{c.Served}, c.Kept...) {
		o, err := g.find(k, p)
		if err != nil || !o.entry.IsFile() || seen[o.entry.SHA256] {
			continue
		}
		old := o.entry
		if seen[old.SHA256] = true; len(seen) > maxAlternates+1 {
			break
		}
		if m.File.Alternates == nil {
			m.File.Alternates = &meta3Alternates{}
		}
		m.File.Alternates.List = append(m.File.Alternates.List, version3(old))
	}
	for i, at := range sites {
		u := at.file(p)
		scheme, _, _ := strings.Cut(u, ":")
		m.File.URLs = append(m.File.URLs, meta3URL{scheme, scheme, max(1, 100-i), u})
	}
	if len(sites) == 0 {
		m.File.URLs = []meta3URL{{Preference: 100, URL: beside(p)}}
	}
	return xmlDocument(m)
}

func version3(e content.Entry) meta3Version {
	return meta3Version{Timestamp: e.Mtime, Size: e.Size, Hash: typedHash{"sha256", e.SHA256.String()}}
}

// xmlDocument writes XML.
func xmlDocument(v any) []byte {
	raw, err := xml.MarshalIndent(v, "", " ")
	if err != nil {
		panic("a metalink is not XML: " + err.Error()) // these structs always are
	}
	return append([]byte(xml.Header), append(raw, '\n')...)
}

// metalinkKind says which metalink a query asks for: "meta4", "metalink" or none.
func metalinkKind(q url.Values) string {
	for _, kind := range []string{"meta4", "metalink"} {
		if q.Has(kind) {
			return kind
		}
	}
	return ""
}

func (g *Gateway) serveMetalink(w http.ResponseWriter, r *http.Request, c *Collection, rel *Release, e content.Entry, p, kind string) {
	sites := g.sites(r, c, rel, maxSites)
	if kind == "metalink" {
		serveDocument(w, r, "application/metalink+xml", p+".metalink", g.metalink3(c, rel, e, p, sites))
		return
	}
	serveDocument(w, r, "application/metalink4+xml", p+".meta4", g.metalink4(c, rel, e, p, sites))
}
