package origin

import (
	"errors"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"

	"swarmnode/content"
)

const (
	// maxToken is how long a tag, or a text between two, may be: lighttpd's script has 6,000 bytes.
	maxToken = 1 << 20
	// maxRowText is how much of the text behind a link is looked at. apache's NameWidth pads it with up to 255 blanks.
	maxRowText = 1024
)

// indexTime finds a time as nginx (20-Nov-2026 10:11), apache (2026-11-20 10:11), lighttpd (2026-Nov-20 10:11:12) and caddy
// (2026-11-20T10:11:12Z, in an attribute) write it.
var indexTime = regexp.MustCompile(`\b(?:\d{2}-[A-Z][a-z]{2}-\d{4}|\d{4}-(?:\d{2}|[A-Z][a-z]{2})-\d{2})[ T]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2}\b)?`)

// indexLayouts are the forms of indexTime.
var indexLayouts = []string{"02-Jan-2006 15:04", "2006-01-02 15:04", "2006-Jan-02 15:04:05", "2006-01-02 15:04:05", time.RFC3339, "2006-Jan-02 15:04", "02-Jan-2006 15:04:05"}

// indexUnit is what may stand behind the number of a size with a blank between them.
var indexUnit = regexp.MustCompile(`^[KMGTPE]?i?B$`)

// htmlIndex collects the rows of a page.
type htmlIndex struct {
	page    *url.URL
	rows    []row
	at      map[string]int  // name -> where it is in rows
	open    bool            // the last link may have a text behind it
	text    strings.Builder // that
	inLink  bool
	inPre   bool
	inTime  bool // the text is that of a time whose attribute has been read
	skip    bool // the last link has been a row already, with its time
	heading string
	inHead  bool
	timed   bool // a row has a time
}

// parseHTML reads an index page of a web server. index is false if it is none, but a page that happens to be in its place.
func parseHTML(r io.Reader, page *url.URL) (rows []row, index bool, err error) {
	return parseHTMLRows(r, page, maxRows)
}

func parseHTMLRows(r io.Reader, page *url.URL, most int) (rows []row, index bool, err error) {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(maxToken)
	p := &htmlIndex{page: page, at: map[string]int{}}
	for {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			p.finish()
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return nil, false, err
			}
			return p.result()
		case html.TextToken:
			p.addText(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			p.start(z)
			if len(p.rows) > most {
				return nil, false, errTooManyRows(most)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			p.end(string(name))
		}
	}
}

func (p *htmlIndex) start(z *html.Tokenizer) {
	tag, more := z.TagName()
	name, attr := string(tag), ""
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		if name == "a" && string(key) == "href" || name == "time" && string(key) == "datetime" {
			attr = string(value)
		}
	}
	switch name {
	case "a":
		p.finish()
		p.link(attr)
	case "time":
		p.inTime = attr != ""
		p.append(" " + attr + " ")
	case "title", "h1", "h2":
		p.inHead = len(p.heading) < maxRowText
	case "pre":
		p.finish()
		p.inPre = true
	case "tr", "li", "hr", "p", "table", "ul":
		p.finish()
	case "td":
		p.append(" ")
	}
}

func (p *htmlIndex) end(name string) {
	switch name {
	case "a":
		p.inLink = false
	case "time":
		p.inTime = false
	case "title", "h1", "h2":
		if p.inHead && len(p.heading) < maxRowText {
			p.heading += "\n"
		}
		p.inHead = false
	case "pre":
		p.finish()
		p.inPre = false
	case "tr", "li", "table", "ul":
		p.finish()
	case "td":
		p.append(" ")
	}
}

func (p *htmlIndex) addText(text string) {
	if p.inHead && len(p.heading) < maxRowText {
		p.heading += text[:min(len(text), maxRowText)]
	}
	if p.inLink || p.inTime || !p.open {
		return
	}
	line, _, ended := strings.Cut(text, "\n")
	if !p.inPre {
		p.append(text)
		return
	}
	p.append(line)
	if ended {
		p.finish()
	}
}

func (p *htmlIndex) append(text string) {
	if p.open && p.text.Len() < maxRowText {
		p.text.WriteString(text[:min(len(text), maxRowText)])
	}
}

// link begins a row, if the link leads to a child.
func (p *htmlIndex) link(href string) {
	p.inLink = true
	name, dir, ok := childName(p.page, href)
	if !ok {
		return
	}
	r := row{name: name, mode: content.ModeFile | 0o644, size: SizeUnknown}
	if dir {
		r.mode = content.ModeDir | 0o755
	}
	p.open = true
	p.text.Reset()
	if i, twice := p.at[name]; twice { // an icon that is a link too, or a mention in a header
		if p.skip = p.rows[i].text != ""; p.skip {
			return
		}
		p.rows[i].name = ""
	}
	p.skip = false
	p.at[name] = len(p.rows)
	p.rows = append(p.rows, r)
}

// finish ends the row of the last link: the text behind it says size and time.
func (p *htmlIndex) finish() {
	if !p.open {
		return
	}
	p.open, p.inLink, p.inTime = false, false, false
	if p.skip {
		return
	}
	text := p.text.String()
	where := indexTime.FindStringIndex(text)
	if where == nil {
		return
	}
	stamp := text[where[0]:where[1]]
	r := &p.rows[len(p.rows)-1]
	for _, layout := range indexLayouts {
		if t, err := time.Parse(layout, stamp); err == nil {
			r.mtime, r.fine = t, strings.Contains(layout, ":05")
			break
		}
	}
	if r.mtime.IsZero() {
		return
	}
	size, only := sizeText(text[where[1]:])
	if size == "" {
		size, _ = sizeText(text[:where[0]])
	}
	r.text = stamp + " " + size
	p.timed = true
	// nginx's own page says exactly how long a file is, unless it is told to round: then it says K, M or G.
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && only && p.inPre && stamp[2] == '-' {
		r.size = n
	}
}

// sizeText gives what looks like a size in text, and whether nothing else is in it.
func sizeText(text string) (size string, only bool) {
	fields := strings.Fields(text)
	for i, f := range fields {
		if f[0] != '-' && (f[0] < '0' || f[0] > '9') {
			continue
		}
		if i+1 < len(fields) && indexUnit.MatchString(fields[i+1]) {
			return f + " " + fields[i+1], false
		}
		return f, len(fields) == 1
	}
	return "", false
}

// result gives the rows, less the links that are none.
func (p *htmlIndex) result() ([]row, bool, error) {
	head := strings.ToLower(p.heading)
	index := p.timed || strings.Contains(head, "index of") || strings.Contains(head, "directory listing")
	for line := range strings.SplitSeq(p.heading, "\n") { // caddy's
		index = index || strings.Trim(strings.TrimSpace(line), "/") == strings.Trim(p.page.Path, "/") && strings.Contains(line, "/")
	}
	if !index {
		return nil, false, nil
	}
	rows := p.rows[:0]
	for _, r := range p.rows {
		// On a page with times a file without one is a link in a header. A directory is asked itself whether it is there.
		if r.name != "" && (!p.timed || r.text != "" || r.mode&^0o777 == content.ModeDir) {
			rows = append(rows, r)
		}
	}
	return rows, true, nil
}
