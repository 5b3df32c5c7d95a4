package origin

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// maxXMLToken is how many bytes one name, text or comment may have: descriptions of packages have some KB.
	maxXMLToken = 1 << 20
	// maxXMLDepth is how deep elements may be in one another: those of rpm are six deep.
	maxXMLDepth = 32
)

// xmlItems walks a document of items, the elements in the root element, and calls start and text for the direct children of each, and end
// behind each. The decoder knows no entities but the five of XML, so nothing expands.
type xmlItems struct {
	item  string // name of the elements that matter
	start func(name string, attr func(string) string)
	text  func(name, text string)
	end   func(attr func(string) string) error // with the attributes of the item
}

// tokenReader fails when one token needs too many bytes.
type tokenReader struct {
	io.Reader
	left int
}

var errXMLToken = fmt.Errorf("a name, text or comment of more than %d bytes", maxXMLToken)

func (t *tokenReader) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, errXMLToken
	}
	n, err := t.Reader.Read(p)
	t.left -= n
	return n, err
}

func (x *xmlItems) read(r io.Reader) error {
	in := &tokenReader{Reader: r}
	d := xml.NewDecoder(in)
	var stack []string
	var item []xml.Attr
	root := false
	for {
		in.left = maxXMLToken
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		depth := len(stack)
		inside := depth >= 2 && stack[1] == x.item
		switch token := token.(type) {
		case xml.StartElement:
			if depth == maxXMLDepth {
				return fmt.Errorf("elements are more than %d deep in one another", maxXMLDepth)
			}
			if depth == 0 && root {
				return errors.New("a second document follows the first")
			}
			root = true
			stack = append(stack, token.Name.Local)
			switch {
			case depth == 1:
				item = token.Attr
			case depth == 2 && inside:
				x.start(token.Name.Local, attributes(token.Attr))
			}
		case xml.EndElement:
			if depth == 0 || stack[depth-1] != token.Name.Local {
				return fmt.Errorf("the element %.40q ends where it has not begun", token.Name.Local)
			}
			stack = stack[:depth-1]
			if depth == 2 && inside {
				if err := x.end(attributes(item)); err != nil {
					return err
				}
			}
		case xml.CharData:
			if depth == 3 && inside {
				x.text(stack[2], string(token))
			}
		}
	}
	if !root || len(stack) > 0 {
		return errors.New("the document is cut off")
	}
	return nil
}

// attributes gives the value of an attribute by its name; xml:base is "base".
func attributes(attrs []xml.Attr) func(string) string {
	return func(name string) string {
		for _, a := range attrs {
			if a.Name.Local == name {
				return a.Value
			}
		}
		return ""
	}
}

// located gathers what is said of one file.
type located struct {
	name, href, base, kind, hash string
	size                         int64
	sized                        bool
}

// appendShort adds to a text that comes in pieces, as long as it can be a hash or a name.
func appendShort(to *string, text string) {
	const most = 256
	if len(*to) < most {
		*to += text[:min(len(text), most)]
	}
}

// measure takes a size, if it is one.
func (l *located) measure(text string) {
	if size, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
		l.size, l.sized = size, true
	}
}

// file checks it.
func (l *located) file() (filed, error) {
	f, ok := hashed(l.kind, l.hash)
	switch {
	case l.href == "":
		return f, fmt.Errorf("%.80q has no location", l.name)
	case strings.Trim(l.base, "./") != "" || strings.Contains(l.href, "://"):
		return f, fmt.Errorf("%.200q is on another server or in another directory, %.200q: it is not read there", l.href, l.base)
	case !ok:
		return f, fmt.Errorf("%.200q has no SHA256 or SHA512 in its index, but %.20q", l.href, l.kind)
	}
	f.path, f.size = strings.TrimPrefix(l.href, "./"), SizeUnknown
	if l.sized {
		f.size = l.size
	}
	return f, nil
}

// readRepomd reads repomd.xml (createrepo_c, and "Repository metadata" of the RPM packaging guide) and calls each with the kind and
// the file of each data element. refuse hears of those that cannot be believed. made is when the newest of them was made, by what is said
// there: the revision beside them is what its maker likes.
func readRepomd(r io.Reader, each func(kind string, f filed) error, refuse func(string, error)) (made time.Time, err error) {
	err = readLocated(r, "data", func(name, text string) {
		if at := timestamp(text); name == "timestamp" && at.After(made) {
			made = at
		}
	}, each, refuse)
	return made, err
}

// readPrimary reads a primary index, whose packages are in it one after the other, and calls add with the file of each. refuse
// hears of those that cannot be published.
func readPrimary(r io.Reader, add func(filed) error, refuse func(string, error)) error {
	return readLocated(r, "package", func(string, string) {}, func(_ string, f filed) error { return add(f) }, refuse)
}

// readLocated reads the items of either: a checksum, a location and a size each, of data as a text and of a package as an attribute. kind is the type of the
// item. more gets the texts of all children.
func readLocated(r io.Reader, item string, more func(name, text string), each func(kind string, f filed) error, refuse func(string, error)) error {
	var l located
	x := xmlItems{
		item: item,
		start: func(name string, attr func(string) string) {
			switch name {
			case "checksum":
				l.kind = attr("type")
			case "size":
				l.measure(attr("package"))
			case "location":
				l.href, l.base = attr("href"), attr("base")
			}
		},
		text: func(name, text string) {
			switch name {
			case "checksum":
				appendShort(&l.hash, text)
			case "name":
				appendShort(&l.name, text)
			case "size":
				l.measure(text)
			}
			more(name, text)
		},
		end: func(attr func(string) string) error {
			kind := attr("type")
			l.name = cmp.Or(l.name, kind)
			f, err := l.file()
			name := cmp.Or(l.href, l.name)
			l = located{}
			if err != nil {
				refuse(name, err)
				return nil
			}
			return each(kind, f)
		},
	}
	return x.read(r)
}

// timestamp reads seconds since 1970, of which old tools tell fractions too. What is none, or not of the years that JSON can hold, is the zero time.
func timestamp(text string) time.Time {
	const most = 253402300799 // the last second of the year 9999 (RFC 3339)
	whole, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds <= 0 || seconds > most {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
