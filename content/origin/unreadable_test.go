package origin

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// A file that is listed and not given is the same over each protocol: what may not be read, or is not there, does not get better by
// trying again, and may be left out by name; what fails for the moment is neither, whatever its words are.
func TestUnreadable(t *testing.T) {
	const denied, gone, later = "denied", "gone", "later"
	check := func(t *testing.T, o Origin, path, want string) {
		t.Helper()
		_, _, err := readAll(t, o, Entry{Path: path, Size: 1}, 0, "")
		got := later
		switch {
		case err == nil:
			got = "read"
		case errors.Is(err, fs.ErrPermission):
			got = denied
		case errors.Is(err, ErrGone):
			got = gone
		}
		if got != want || final(err) != (want != later) {
			t.Errorf("%s: %s (%v), want %s", path, got, err, want)
		}
	}
	t.Run("http", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			code, _ := strconv.Atoi(r.URL.Path[1:])
			w.WriteHeader(code)
		}))
		defer server.Close()
		o := follow(t, server.URL, Options{}).o
		for code, want := range map[string]string{"400": denied, "403": denied, "451": denied, "404": gone, "410": gone,
			"408": later, "425": later, "429": later, "500": later, "502": later, "503": later, "504": later, "507": later} {
			check(t, o, code, want)
		}
	})
	t.Run("ftp", func(t *testing.T) {
		for answer, want := range map[string]string{
			"550 Permission denied": denied, "553 Prohibited file name": denied, "550 No.": denied, "550 No such file": gone,
			"421 Too many users": later, "425 No data connection": later, "426 Aborted": later, "450 No such file now": later, "451 Permission denied: disk error": later, "452 No space": later,
		} {
			s := newFakeFTP(t, map[string]string{`back\slash`: "1"})
			s.onCommand(func(c *fakeConn, cmd, _ string) bool {
				if cmd == "RETR" {
					c.reply(answer)
				}
				return cmd == "RETR"
			})
			check(t, dialFTP(t, s, "ftp", "/", Options{}), `back\slash`, want)
		}
	})
	t.Run("sftp", func(t *testing.T) {
		for code, want := range map[byte]string{2: gone, 3: denied, 4: later, 5: later, 6: later} {
			s := startSSH(t, rawSFTP(func(kind byte, _ []byte) (byte, []byte) {
				if kind == fxOpen {
					return fxStatus, []byte{0, 0, 0, code, 0, 0, 0, 0, 0, 0, 0, 0}
				}
				return 0, nil
			}))
			check(t, openTestSFTP(t, s, "/", nil), "f"+strconv.Itoa(int(code)), want)
		}
	})
	t.Run("rsync", func(t *testing.T) {
		for text, want := range map[string]string{
			`send_files failed to open "f": Permission denied (13)`: denied, `send_files failed to open "f": No such file or directory (2)`: gone, `file has vanished: "f"`: gone,
			`send_files failed to open "f": Input/output error (5)`: later, `send_files failed to open "f": Too many open files (24)`: later,
		} {
			addr := startRsyncd(t, t.TempDir(), func(d *rsyncd, _ int, _ net.Conn) {
				d.extra = func(d *rsyncd) {
					d.entry("f", 1, 1e9, 0o100644, "")
					d.frame(0, append([]byte{0}, ints(0)...))
					for d.int() >= 0 {
						d.sums()
						d.frame(1, []byte("rsync: [sender] "+text+"\n"))
					}
					panic("end")
				}
			})
			o := openTestRsync(t, "rsync://"+addr+"/mod", nil)
			if _, _, err := entriesOf(t, o, Before{}); err != nil {
				t.Fatal(err)
			}
			check(t, o, "f", want)
		}
	})
}
