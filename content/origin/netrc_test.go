package origin

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseNetrc(t *testing.T) {
	const file = `# a comment
machine a.example login ann password p#1 # not of it
machine q.example login "quin \"q\"" password "two  words\\ \t#"
machine u.example login una password "no end
MACHINE k.example Login kim password #hash
machine b.example
	login bob
	account x
	password p2
macdef init
machine evil.example login no password no

machine c.example login carl password p3 machine c.example login cora password p4
machine d.example password only
default login anonymous password me@example.org`
	for _, c := range []struct{ host, user, want string }{
		{"a.example", "", "ann:p#1"},
		{"A.Example", "", "ann:p#1"},
		{"q.example", "", `quin "q":two  words\ ` + "\t#"},
		{"u.example", "", `una:"no`},
		{"k.example", "", "kim:#hash"},
		{"b.example", "", "bob:p2"},
		{"c.example", "", "carl:p3"},
		{"c.example", "cora", "cora:p4"},
		{"d.example", "dora", "dora:only"},
		{"evil.example", "", "anonymous:me@example.org"},
		{"a.example", "eve", ""},
	} {
		got := ""
		if u := parseNetrc(file, c.host, c.user); u != nil {
			password, _ := u.Password()
			got = u.Username() + ":" + password
		}
		if got != c.want {
			t.Errorf("%q of %s: %q, want %q", c.user, c.host, got, c.want)
		}
	}
	if u := parseNetrc("machine a login b password c", "other", ""); u != nil {
		t.Errorf("a machine that is not there: %v", u)
	}
}

func TestLogin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, c := range []struct{ url, netrc, want string }{
		{"http://h/", "", ""},
		{"http://u@h/", "", "u"},
		{"http://u:p@h/", "machine h login u password q", "u:p"},
		{"http://h/", "machine h login u password q", "u:q"},
		{"http://v@h/", "machine h login u password q", "v"},
	} {
		if err := os.WriteFile(filepath.Join(dir, ".netrc"), []byte(c.netrc), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := login(Options{}, u)
		if err != nil || got.String() != c.want {
			t.Errorf("%s with %q: %v, %v, want %s", c.url, c.netrc, got, err, c.want)
		}
	}
	u := &url.URL{Host: "h"}
	if _, err := login(Options{Access: Access{Netrc: filepath.Join(dir, "none")}}, u); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a file that was named and is not there: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxNetrc+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := login(Options{Access: Access{Netrc: big}}, u); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a file that is too long: %v", err)
	}
}

// FuzzNetrc: whatever is in the file, nothing panics, and a user that was asked for is who it is.
func FuzzNetrc(f *testing.F) {
	f.Add("machine h login u password p\nmacdef x\ny\n\ndefault login a password b", "h", "u")
	f.Fuzz(func(t *testing.T, data, host, user string) {
		if u := parseNetrc(data, host, user); u != nil && (u.Username() == "" || user != "" && u.Username() != user) {
			t.Errorf("%q for %q", u, user)
		}
	})
}
