package origin

import (
	"errors"
	"strings"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"htpp://example.org/", `there is no scheme "htpp"; there are`},
		{"ssh://me:secret@example.org/x", `ssh://me@example.org/x: there is no scheme "ssh"`},
		{"me@example.org:site", "sftp://me@example.org/site"},
		{"me@example.org::module/x", "rsync://me@example.org/module/x"},
		{"example.org::module/x", "rsync://example.org/module/x"},
		{"127.0.0.1:8080/x", "https://127.0.0.1:8080/x"},
		{"localhost:8080", "https://localhost:8080"},
		{"./site", "nor the whole path of a directory"},
		{"", "nor the whole path of a directory"},
		{"http://me:sec ret%@example.org/", "is not a URL"},
		{"http://me:secret@[::1", "is not a URL"},
		{"http://me:12#secret@example.org/", "%23"},
		{"http://me:12?secret@example.org/", "%3F"},
		{"x://me:12?secret@example.org/", "no scheme"},
		{"file://server/dir", "three slashes"},
		{"file:///dir?x", "%3F"},
	} {
		o, err := Open(t.Context(), c.url, Options{})
		refused := (*RefusedError)(nil)
		if o != nil || !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want a refusal with %q", c.url, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec ret")) {
			t.Errorf("%q: the password is in the error: %v", c.url, err)
		}
	}
	if _, err := Open(t.Context(), "/nowhere/at/all", Options{}); err == nil {
		t.Error("a directory that is not there opens")
	}
	if _, err := Open(t.Context(), t.TempDir(), Options{Exclude: []string{"[x"}}); err == nil || !strings.Contains(err.Error(), `"[x"`) {
		t.Errorf("a pattern that is none: %v", err)
	}
}

func TestWithoutPassword(t *testing.T) {
	for _, c := range [][2]string{
		{"http://h/p", "http://h/p"},
		{"http://u@h/p", "http://u@h/p"},
		{"http://u:p@h/p", "http://u@h/p"},
		{"http://u:p%@h/p", "http://u@h/p"},
		{"http://u:p@q%@h/p", "http://u@h/p"},
		{"http://u:1#p@h/p", "http://u@h/p"},
		{"apt+http://u:1@h/p?suite=x", "apt+http://u@h/p?suite=x"},
		{"u:p@h/p", "u@h/p"},
		{"/dir/with@sign", "/dir/with@sign"},
	} {
		if got := WithoutPassword(c[0]); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

// FuzzOpen: no URL makes it panic, and no password gets into an error.
func FuzzOpen(f *testing.F) {
	f.Add("http", "host/path")
	f.Add("file", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		const password = "Tr0ub4dor"
		raw := before + "://user:" + password + "@" + after
		if strings.Contains(before+after, password) || strings.Contains(before, "/") || strings.Contains(before, "@") {
			return
		}
		if got := WithoutPassword(raw); strings.Contains(got, password) {
			t.Errorf("%q: %q", raw, got)
		}
		if _, err := Parse(raw); err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", raw, err)
		}
		if o, err := Open(t.Context(), raw, Options{}); err == nil {
			o.Close()
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
