package origin

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// shelfServer serves a directory as web servers do, and notes what it is asked.
func shelfServer(t *testing.T, dir string) (server *httptest.Server, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var requests []string
	files := http.FileServer(http.Dir(dir))
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "test/1" {
			t.Errorf("%s comes from %q", r.URL, r.UserAgent())
		}
		recorder := httptest.NewRecorder()
		files.ServeHTTP(recorder, r)
		mu.Lock()
		requests = append(requests, r.Method+" "+r.URL.Path+" "+http.StatusText(recorder.Code))
		mu.Unlock()
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	return server, func() []string {
		mu.Lock()
		defer mu.Unlock()
		all := requests
		requests = nil
		return all
	}
}

// put writes what is on a shelf into a directory, with times of an hour ago.
func put(t *testing.T, s *shelf, dir string) {
	t.Helper()
	for p, data := range s.files {
		file := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(file, hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRepositoriesOverHTTP goes through Open, with apt and rpm, over HTTP and from a directory.
func TestRepositoriesOverHTTP(t *testing.T) {
	key := newSigner(t, "archive", testDay.AddDate(-1, 0, 0), 0)
	keyring := writeKeyring(t, true, key)
	a, r := testArchive(), testRPM()
	a.date = time.Now().Add(-time.Hour)
	a.signer, r.signer = key, nil
	for _, c := range []struct{ kind, query, poll, keyring string }{
		{"apt", "?suite=stable&arch=amd64", "/repo/dists/stable/InRelease", keyring},
		{"rpm", "", "/repo/repodata/repomd.xml", ""},
	} {
		t.Run(c.kind, func(t *testing.T) {
			s := &shelf{}
			if c.kind == "apt" {
				a.write(t, s, "stable")
			} else {
				r.write(t, s)
			}
			dir := t.TempDir()
			put(t, s, filepath.Join(dir, "repo"))
			server, asked := shelfServer(t, dir)
			o := Options{AllowPrivate: true, UserAgent: "test/1", Access: Access{Keyring: c.keyring, Netrc: os.DevNull}}
			for _, base := range []string{server.URL + "/repo/", "file://" + dir + "/repo"} {
				origin, err := Open(t.Context(), c.kind+"+"+base+c.query, o)
				if err != nil {
					t.Fatal(err)
				}
				paths, entries, told, err := collect(t, origin, Before{})
				if err != nil || len(told.Bad) > 0 || len(paths) < 8 {
					t.Fatal(base, err, told.Bad, paths)
				}
				fetchAll(t, origin, entries, s.files)
				asked()
				_, _, _, err = collect(t, origin, after(entries, told))
				if want := []string{"GET " + c.poll + " Not Modified"}; !errors.Is(err, ErrUnchanged) || strings.HasPrefix(base, "http") && !slices.Equal(asked(), want) {
					t.Errorf("%s, unchanged: %v", base, err)
				}
				if err := origin.Close(); err != nil {
					t.Error(err)
				}
			}
			o.AllowPrivate = false
			origin, err := Open(t.Context(), c.kind+"+"+server.URL+"/repo/"+c.query, o)
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, err = collect(t, origin, Before{})
			if refused := (*RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "is a private address") {
				t.Errorf("a private address: %v", err)
			}
		})
	}
}

// TestRepositoryLostFile: a package that the index names and the server lacks is found when it is fetched.
func TestRepositoryLostFile(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	o := aptOver(t, s, "suite=stable", Options{})
	_, entries, _, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	delete(s.files, a.debs[0].path())
	if _, err := o.Open(t.Context(), entries[a.debs[0].path()], 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("a package that is gone: %v", err)
	}
}

// TestSizeWithoutHEAD asks a server that does not know HEAD.
func TestSizeWithoutHEAD(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.URL.Path != "/there":
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte("seven"))
		}
	}))
	defer server.Close()
	o, err := Open(t.Context(), server.URL, Options{AllowPrivate: true, Access: Access{Netrc: os.DevNull}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if n, err := sourceOf(o).size(t.Context(), "there"); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := sourceOf(o).size(t.Context(), "not"); !absent(err) {
		t.Error(err)
	}
}

// TestLasting: what changed in the second of the answer may change in it again.
func TestLasting(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	answer := func(modified time.Time, etag string) *http.Response {
		r := &http.Response{Header: http.Header{"Date": {at.Format(http.TimeFormat)}}}
		if !modified.IsZero() {
			r.Header.Set("Last-Modified", modified.Format(http.TimeFormat))
		}
		if etag != "" {
			r.Header.Set("ETag", etag)
		}
		return r
	}
	old := at.Add(-time.Hour)
	for _, c := range []struct {
		resp *http.Response
		want string
	}{
		{answer(old, `"x"`), `"x"`}, {answer(old, `W/"x"`), `W/"x"`}, {answer(old, ""), old.Format(http.TimeFormat)}, {answer(old, "bare"), old.Format(http.TimeFormat)},
		{answer(at, `"x"`), ""}, {answer(at, ""), ""}, {answer(time.Time{}, `"x"`), `"x"`}, {answer(time.Time{}, ""), ""},
	} {
		if got := lasting(c.resp); got != c.want {
			t.Errorf("%v: %q, want %q", c.resp.Header, got, c.want)
		}
	}
}
