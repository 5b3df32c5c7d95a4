package trigger

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var secret = []byte(strings.Repeat("s", minSecret))

// sign gives the value of SignatureHeader for a body.
func sign(secret []byte, now time.Time, body []byte) string {
	at := strconv.FormatInt(now.Unix(), 10)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac(secret, at, body))
}

func hooks(t *testing.T) (h *Hooks, calls *int, now *time.Time) {
	t.Helper()
	calls, now = new(int), new(time.Time)
	*now = time.Unix(1_700_000_000, 0)
	h, err := ListenHooks("127.0.0.1:0", func() time.Time { return *now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.Set("debian", Hook{Secret: secret, Trigger: func() State { *calls++; return State{Next: *now} }})
	h.Set("open", Hook{Trigger: func() State { *calls++; return State{Running: true} }})
	return h, calls, now
}

func TestHooks(t *testing.T) {
	h, calls, now := hooks(t)
	good := sign(secret, *now, []byte("{}"))
	for _, c := range []struct {
		name, method, path, signature, body string
		want                                int
	}{
		{"signed", "POST", "/debian", good, "{}", 202},
		{"again", "POST", "/debian", good, "{}", 401},
		{"nothing", "POST", "/debian", "", "{}", 401},
		{"another body", "POST", "/debian", sign(secret, *now, []byte("a")), "{}", 401},
		{"another secret", "POST", "/debian", sign([]byte("x"), *now, []byte("{}")), "{}", 401},
		{"old", "POST", "/debian", sign(secret, now.Add(-maxSkew-time.Second), []byte("{}")), "{}", 401},
		{"from the future", "POST", "/debian", sign(secret, now.Add(maxSkew+time.Second), []byte("{}")), "{}", 401},
		{"a bit old", "POST", "/debian", sign(secret, now.Add(-maxSkew+time.Second), []byte("{}")), "{}", 202},
		{"another name", "POST", "/ubuntu", good, "{}", 404},
		{"GET", "GET", "/debian", good, "", 405},
		{"too long", "POST", "/debian", good, strings.Repeat("x", MaxHookBody+1), 413},
		{"without a secret", "POST", "/open", "", "", 202},
	} {
		was := *calls
		req, err := http.NewRequest(c.method, "http://"+h.Addr()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(SignatureHeader, c.signature)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if called := *calls - was; res.StatusCode != c.want || (called == 1) != (c.want == 202) {
			t.Errorf("%s: got %s %q and %d calls, want %d", c.name, res.Status, text.String(), called, c.want)
		}
		if c.want == 401 && text.String() != "not authorised\n" {
			t.Errorf("%s: a stranger is told %q", c.name, text.String())
		}
	}
	if left := h.Remove("open"); left != 1 {
		t.Errorf("%d hooks are left, want 1", left)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/open", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("a removed hook answers %d", w.Code)
	}
}

// A signature is remembered as long as it could be valid, and the memory has an end.
func TestMemory(t *testing.T) {
	m, now := memory{}, time.Unix(1_700_000_000, 0)
	early := sign(secret, now.Add(maxSkew), nil) // a clock that is fast
	if err := m.verify(secret, early, nil, now); err != nil {
		t.Fatal(err)
	}
	if err := m.verify(secret, early, nil, now.Add(2*maxSkew-time.Second)); err == nil {
		t.Error("a signature counted twice")
	}
	for i := range maxRemembered {
		m.seen[[32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}] = now
	}
	if err := m.verify(secret, sign(secret, now, []byte("x")), []byte("x"), now); err == nil {
		t.Error("more is taken than can be remembered")
	}
	later := now.Add(rememberFor)
	if err := m.verify(secret, sign(secret, later, nil), nil, later); err != nil || len(m.seen) != 1 {
		t.Errorf("%v, and %d are remembered after all of it is over", err, len(m.seen))
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got, err := ReadSecret(file("good", "  "+string(secret)+"\n")); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, path := range []string{file("short", "password"), file("long", strings.Repeat("x", maxSecretFile+1)), filepath.Join(dir, "missing")} {
		if _, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	for address, want := range map[string][2]bool{ // without a secret, with one
		"127.0.0.1:9000": {true, true}, "[::1]:9000": {true, true}, "localhost:9000": {true, true},
		":9000": {false, true}, "0.0.0.0:9000": {false, true}, "example.org:9000": {false, true}, "9000": {false, false}, "127.0.0.1:x": {false, false},
	} {
		for i, secret := range []bool{false, true} {
			if err := CheckAddress(address, secret); (err == nil) != want[i] {
				t.Errorf("%s, secret %t: %v", address, secret, err)
			}
		}
	}
}

func FuzzSignature(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	for _, header := range []string{sign(secret, now, nil), "", "t=1,v1=", "t=1,t=2,v1=00", "v1=" + strings.Repeat("0", 64) + ",t=9223372036854775807"} {
		f.Add(header)
	}
	good := sign(secret, now, nil)
	f.Fuzz(func(t *testing.T, header string) {
		m := memory{}
		if err := m.verify(secret, header, nil, now); err == nil && !strings.Contains(strings.ToLower(header), good[len(good)-64:]) {
			t.Errorf("%q counts", header)
		}
	})
}
