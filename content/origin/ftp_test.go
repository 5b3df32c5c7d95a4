package origin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

// dialFTP opens the origin that a fake server has at a path.
func dialFTP(t *testing.T, s *fakeFTP, scheme, p string, o Options) *ftp {
	t.Helper()
	o.AllowPrivate = true
	if o.Netrc == "" {
		o.Netrc = "/dev/null"
	}
	or, err := Open(t.Context(), s.url(scheme, p), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = or.Close() })
	return or.(*ftp)
}

// without takes features away from a server.
func (s *fakeFTP) without(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feats = slices.DeleteFunc(s.feats, func(f string) bool { return slices.Contains(names, strings.Fields(f)[0]) })
}

// refuse makes the server answer a command, all its arguments or one, with reply.
func (s *fakeFTP) refuse(cmd, arg, reply string) {
	s.onCommand(func(c *fakeConn, gotCmd, gotArg string) bool {
		if gotCmd != cmd || arg != "" && arg != gotArg {
			return false
		}
		c.reply("%s", reply)
		return true
	})
}

var ftpTree = map[string]string{"a/b/c": "three", "a/ lead": "", "a/trail ": "t", "a/x -> y": "arrow", "z": "last", ".hidden": "h", "empty/": "", "ä €": "u",
	"link": "->a/b/c", "whole": "->/a/b/c", "out": "->../etc/passwd", "a/-> l": "->b -> c"}

func TestFTPList(t *testing.T) {
	want := []string{".hidden file 640 1", "a dir 755", "a/ lead file 640 0", "a/-> l -> b -> c", "a/b dir 755", "a/b/c file 640 5", "a/trail  file 640 1",
		"a/x -> y file 640 5", "empty dir 755", "link -> a/b/c", "whole -> a/b/c", "z file 640 4", "ä € file 640 1"}
	for _, c := range []struct {
		name    string
		prepare func(*fakeFTP)
		mtime   bool
	}{
		{"MLSD", func(*fakeFTP) {}, true},
		{"LIST", func(s *fakeFTP) { s.without("MLST", "MLSD") }, false},
		{"MLSD that is none", func(s *fakeFTP) { s.refuse("MLSD", "", "502 not here") }, false},
		{"PASV to somewhere else", func(s *fakeFTP) {
			s.onCommand(func(c *fakeConn, cmd, _ string) bool {
				switch cmd {
				case "EPSV":
					c.reply("502 what?")
				case "PASV":
					port := c.open()
					c.reply("227 there (192,0,2,1,%d,%d)", port>>8, port&255)
				}
				return cmd == "EPSV" || cmd == "PASV"
			})
		}, true},
		{"links without targets", func(s *fakeFTP) {
			s.onCommand(func(c *fakeConn, cmd, _ string) bool {
				if cmd != "MLSD" {
					return false
				}
				var b strings.Builder
				for line := range strings.Lines(c.list(cmd)) {
					_, rest, link := strings.Cut(line, "slink:")
					if _, facts, ok := strings.Cut(rest, ";"); link && ok {
						line = "type=OS.unix=symlink;" + facts
					}
					b.WriteString(line)
				}
				c.send(b.String(), "226 done")
				return true
			})
		}, true},
	} {
		s := newFakeFTP(t, ftpTree)
		c.prepare(s)
		f := dialFTP(t, s, "ftp", "/", Options{})
		f.now = func() time.Time { return fakeTime.AddDate(0, 0, 3) }
		all, l := ftpListed(t, f, Before{})
		var got []string
		for _, p := range slices.SortedFunc(maps.Keys(all), content.ComparePaths) {
			e := all[p]
			switch {
			case e.IsDir():
				got = append(got, fmt.Sprintf("%s dir %o", p, e.Mode&0o7777))
			case e.IsFile():
				got = append(got, fmt.Sprintf("%s file %o %d", p, e.Mode&0o7777, e.Size))
				if c.mtime != (e.Mtime == fakeTime.UnixNano()) || e.Stamp == "" {
					t.Errorf("%s: %q has the time %d and the stamp %q", c.name, p, e.Mtime, e.Stamp)
				}
			default:
				got = append(got, p+" -> "+e.Target)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if len(l.Bad) != 1 || l.Bad[0].Path != "out" {
			t.Errorf("%s: %v cannot be published, want the link to outside", c.name, l.Bad)
		}
		if n := s.commands(); l.Requests < n["CWD"]*3 || n["CWD"] != 4 {
			t.Errorf("%s: %d requests, %d directories", c.name, l.Requests, n["CWD"])
		}
	}
}

// The path of a URL is relative to where the login leads, or absolute with two slashes.
func TestFTPTop(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"home/me/pub/f": "1", "pub/g": "2", "home/me/pub/l": "->/home/me/pub/f"})
	s.refuse("PWD", "", `257 "/home/me" is it`)
	for p, want := range map[string][]string{"/pub/": {"f", "l"}, "//pub": {"g"}} {
		got, _ := ftpListed(t, dialFTP(t, s, "ftp", p, Options{}), Before{})
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(got))); d != "" {
			t.Errorf("%s: %s", p, d)
		}
		if e := got["l"]; want[0] == "f" && e.Target != "f" {
			t.Errorf("a link to a whole path in the tree leads to %q", e.Target)
		}
	}
	_, err := dialFTP(t, s, "ftp", "/nowhere", Options{}).List(t.Context(), Before{}, nil)
	if !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no such top: %v", err)
	}
}

// What LIST says of a time changes while the file does not, and does not change while the file does.
func TestFTPStamps(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"f": "data"})
	s.without("MLST", "MLSD")
	f := dialFTP(t, s, "ftp", "/", Options{})
	at := fakeTime
	f.now = func() time.Time { return at }
	var before Before
	list := func(name string, same bool, mdtm int) {
		t.Helper()
		asked := s.commands()["MDTM"]
		got, l := ftpListed(t, f, before)
		was, _ := before.Find("f")
		if same != (was.Stamp == got["f"].Stamp) {
			t.Errorf("%s: the stamp was %q, is %q", name, was.Stamp, got["f"].Stamp)
		}
		if n := s.commands()["MDTM"] - asked; n != mdtm {
			t.Errorf("%s: asked %d times for the exact time, want %d", name, n, mdtm)
		}
		before = Before{Memo: l.Memo, Entry: func(p string) (Entry, bool) { e, ok := got[p]; return e, ok }}
	}
	change := func(to string, when time.Time) {
		s.put("f", to)
		s.mu.Lock()
		defer s.mu.Unlock()
		file := s.tree["/f"]
		file.mtime = when
		s.tree["/f"] = file
	}
	at = fakeTime.Add(10 * time.Second)
	list("first, young", false, 1)
	list("young", true, 1)
	change("atad", fakeTime.Add(5*time.Second)) // the same minute and size
	list("changed in the same minute", false, 1)
	at = at.Add(5 * time.Minute)
	list("not young any more: once more to be sure", true, 1)
	list("not young any more", true, 0)
	at = at.AddDate(0, 8, 0)
	s.set(func() { s.year = 2027 })
	list("old: a day instead of a minute", true, 1)
	list("old", true, 0)
	s.set(func() { s.year = 2026 })
	change("more", at.Add(-time.Hour))
	list("changed an hour ago", false, 0)
	list("stays", true, 0)
	s.without("MDTM")
	f = dialFTP(t, s, "ftp", "/", Options{})
	change("newer", at.Add(-time.Hour))
	f.now = func() time.Time { return at }
	list("young, and nobody tells the second", false, 0)
	if e, _ := before.Find("f"); e.Stamp != "" {
		t.Errorf("the stamp %q vouches for a file that may change unseen", e.Stamp)
	}
}

// read gives what is left of a file, and the error at its end.
func (b *Body) all(t *testing.T) (string, error) {
	t.Helper()
	data, err := io.ReadAll(b)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	return string(data), err
}

func TestFTPOpen(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"d/f": "0123456789"})
	f := dialFTP(t, s, "ftp", "/", Options{Connections: 1})
	f.now = func() time.Time { return fakeTime.Add(time.Hour) }
	all, _ := ftpListed(t, f, Before{})
	e := all["d/f"]
	open := func(offset int64, version, want string) *Body {
		t.Helper()
		b, err := f.Open(t.Context(), e, offset, version)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.all(t); got != want || err != nil || b.Offset != int64(10-len(want)) || b.Size != 10 || b.Mtime != fakeTime.UnixNano() {
			t.Errorf("from %d of %q: %q, %v, %+v, want %q", offset, version, got, err, b, want)
		}
		if same, err := b.Still(t.Context()); !same || err != nil {
			t.Errorf("still %v, %v", same, err)
		}
		return b
	}
	b := open(0, "", "0123456789")
	if n := s.commands(); n["SIZE"]+n["MDTM"] > 0 || n["MLST"] != 1 || n["USER"] != 1 {
		t.Errorf("%v for one file", n)
	}
	open(4, b.Version, "456789")
	open(4, "another", "0123456789")
	open(4, "", "0123456789")
	s.refuse("REST", "", "502 what?")
	open(4, b.Version, "0123456789")
	s.put("d/f", "x123456789!")
	if same, err := b.Still(t.Context()); same || err != nil {
		t.Errorf("changed, and still the same: %v", err)
	}
	s.onCommand(nil)
	s.without("MLST", "MLSD")
	s.put("d/f", "9876543210")
	f = dialFTP(t, s, "ftp", "/", Options{})
	f.now = func() time.Time { return fakeTime.Add(time.Hour) }
	e.Stamp = ""
	open(0, "", "9876543210")
	if n := s.commands(); n["SIZE"] != 2 || n["MDTM"] != 2 {
		t.Errorf("%v", n)
	}
	// The hook is called for all that is asked from here on: nothing but RETR works.
	s.onCommand(func(c *fakeConn, cmd, _ string) bool {
		if cmd == "SIZE" || cmd == "MDTM" {
			c.reply("500 what?")
		}
		return cmd == "SIZE" || cmd == "MDTM"
	})
	b, err := f.Open(t.Context(), Entry{Path: "d/f", Size: SizeUnknown}, 3, "x")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.all(t); got != "9876543210" || err != nil || b.Size != SizeUnknown || b.Version != "" || b.Still != nil {
		t.Errorf("%q, %v, %+v", got, err, b)
	}
}

// A file that is old enough for the next listing to vouch for it takes two commands, three where the listing tells no seconds. If it
// is written to while it is read, the next listing says so.
func TestFTPVouched(t *testing.T) {
	for _, c := range []struct {
		name  string
		list  bool // a server without MLSD
		age   time.Duration
		want  string
		still bool
	}{
		{"MLSD", false, 49 * time.Hour, "EPSV RETR", false},
		{"MLSD, young", false, 47 * time.Hour, "EPSV RETR", true},
		{"LIST", true, 49 * time.Hour, "EPSV MDTM RETR", false},
		{"LIST, young", true, 47 * time.Hour, "EPSV MDTM RETR", true},
		{"LIST of days", true, 300 * 24 * time.Hour, "EPSV MDTM RETR", false},
	} {
		s := newFakeFTP(t, map[string]string{"f": "0123456789"})
		now := fakeTime.Add(c.age)
		if c.list {
			s.without("MLST", "MLSD")
			s.set(func() { s.year = now.Year() })
		}
		f := dialFTP(t, s, "ftp", "/", Options{Connections: 1})
		f.now = func() time.Time { return now }
		all, l := ftpListed(t, f, Before{})
		asked := len(s.lines())
		b, err := f.Open(t.Context(), all["f"], 0, "")
		if err != nil {
			t.Fatal(err)
		}
		s.put("f", "9876543210") // while it is read
		s.mu.Lock()
		file := s.tree["/f"]
		file.mtime = now
		s.tree["/f"] = file
		s.mu.Unlock()
		if got, err := b.all(t); len(got) != 10 || err != nil || b.Mtime != fakeTime.UnixNano() {
			t.Errorf("%s: %q, %v, %+v", c.name, got, err, b)
		}
		var got []string
		for _, line := range s.lines()[asked:] {
			got = append(got, strings.Fields(line)[0])
		}
		if g := strings.Join(got, " "); g != c.want || c.still != (b.Still != nil) {
			t.Errorf("%s: %s, asked afterwards: %v; want %s, %v", c.name, g, b.Still != nil, c.want, c.still)
		}
		if c.still {
			if same, err := b.Still(t.Context()); same || err != nil {
				t.Errorf("%s: still the same: %v", c.name, err)
			}
		}
		again, _ := ftpListed(t, f, Before{Memo: l.Memo, Entry: func(p string) (Entry, bool) { e, ok := all[p]; return e, ok }})
		if again["f"].Stamp == all["f"].Stamp || all["f"].Stamp == "" {
			t.Errorf("%s: the stamp was %q, and is %q", c.name, all["f"].Stamp, again["f"].Stamp)
		}
	}
}

// Bytes that are missing, too many, or that the server takes back are errors; a new try gets a working connection.
func TestFTPTorn(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"f": "0123456789"})
	f := dialFTP(t, s, "ftp", "/", Options{Connections: 1})
	all, _ := ftpListed(t, f, Before{})
	e := all["f"]
	unknown := Entry{Path: "f", Size: SizeUnknown}
	noSize := func(c *fakeConn, cmd string) bool {
		if cmd == "MLST" || cmd == "SIZE" || cmd == "MDTM" {
			c.reply("500 no")
			return true
		}
		return false
	}
	send := func(data, last string) func(c *fakeConn, cmd, _ string) bool {
		return func(c *fakeConn, cmd, _ string) bool {
			if cmd == "RETR" {
				c.send(data, last)
				if last == "" {
					_ = c.conn.Close()
				}
				return true
			}
			return noSize(c, cmd)
		}
	}
	for _, c := range []struct {
		name, data, last, want string
		e                      Entry
		ok                     bool
	}{
		{"whole", "0123456789", "226 done", "", e, true},
		{"whole, and no answer any more", "0123456789", "", "", e, true},
		{"short", "01234", "226 done", "ends after 5 of 10 bytes", e, false},
		{"cut", "01234", "426 cut", "426 cut", e, false},
		{"cut, and it says nothing", "01234", "", "ends after 5 of 10", e, false},
		{"whole, it says it is not", "0123456789", "451 disk error", "451 disk error", e, false},
		{"long", "0123456789!", "226 done", "goes on after the 10 bytes", e, false},
		{"nobody knows how long", "01234", "226 done", "", unknown, true},
		{"nobody knows how long nor whether", "01234", "", "nobody says", unknown, false},
	} {
		s.onCommand(send(c.data, c.last))
		b, err := f.Open(t.Context(), c.e, 0, "")
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := b.all(t)
		if _, torn := f.torn.LoadAndDelete("f"); torn != (c.name == "short" || c.name == "long" || c.name == "cut, and it says nothing") {
			t.Errorf("%s: asked again before the next try: %v", c.name, torn)
		}
		if c.ok && (got != c.data || err != nil) || !c.ok && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// What is gone, what may not be read, and servers whose words say neither.
func TestFTPAbsent(t *testing.T) {
	for _, vague := range []bool{false, true} {
		s := newFakeFTP(t, map[string]string{"d/f": "1", "d/locked/": "", "d/secret": "2", "x": "3"})
		s.onCommand(func(c *fakeConn, cmd, arg string) bool {
			if cmd != "CWD" && cmd != "RETR" {
				return false
			}
			_, there := c.find(arg)
			locked := lastPart(arg) == "locked" || lastPart(arg) == "secret"
			switch {
			case there && !locked:
				return false
			case vague:
				c.reply("550 Failed.")
			case there:
				c.reply("550 Permission denied")
			default:
				c.reply("550 No such file")
			}
			return true
		})
		f := dialFTP(t, s, "ftp", "/", Options{})
		got, l := ftpListed(t, f, Before{})
		if d := cmp.Diff([]string{"d", "d/f", "d/secret", "x"}, slices.SortedFunc(maps.Keys(got), content.ComparePaths)); d != "" || len(l.Bad) != 1 {
			t.Errorf("vague %v: %s %v", vague, d, l.Bad)
		}
		for p, want := range map[string]error{"d/secret": fs.ErrPermission, "d/gone": ErrGone, "gone/too": ErrGone} {
			if _, err := f.Open(t.Context(), Entry{Path: p, Size: SizeUnknown}, 0, ""); !errors.Is(err, want) {
				t.Errorf("vague %v: %s: %v, want %v", vague, p, err, want)
			}
		}
	}
}

// lastPart is the last part of a path.
func lastPart(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// A listing that is not whole is an error, never a shorter listing.
func TestFTPHalfListing(t *testing.T) {
	fine := "-rw-r--r-- 1 u g 5 Nov 20 10:20 f\r\n"
	for _, c := range []struct{ name, data, last, want string }{
		{"no right to read", "", "226 Transfer done (but failed to open directory).", "permission"},
		{"truncated", fine, "226-Output truncated to 2000 matches\r\n226 done", "LimitRecursion"},
		{"cut", fine, "426 cut", "426"},
		{"no form", "Verzeichnis von C:\r\n", "226 done", "no form that is known"},
		{"refused", fine, "550 no", "permission"},
	} {
		s := newFakeFTP(t, nil)
		s.without("MLST", "MLSD")
		s.onCommand(func(f *fakeConn, cmd, _ string) bool {
			if cmd == "LIST" {
				f.send(c.data, c.last)
			}
			return cmd == "LIST"
		})
		if _, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	s := newFakeFTP(t, nil)
	s.refuse("MLSD", "", "550 No files found")
	if lines, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); err != nil || len(lines) > 0 {
		t.Errorf("empty: %v, %v", lines, err)
	}
}

// readTop lists the top once, without the retries of a crawl.
func readTop(t *testing.T, f *ftp) (lines []ftpLine, err error) {
	t.Helper()
	err = f.with(t.Context(), func(c *ftpConn) error {
		lines, err = c.readDir(t.Context(), "")
		return err
	})
	return lines, err
}
