package origin

import (
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

var ftpNow = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func TestFTPLines(t *testing.T) {
	at := func(y, m, d, h, min int) time.Time { return time.Date(y, time.Month(m), d, h, min, 0, 0, time.UTC) }
	for _, c := range []struct {
		line string
		want ftpLine
	}{
		{"-rw-r--r--    1 0        0              11 Nov 23 02:29  lead space", ftpLine{name: " lead space", kind: 'f', mode: 0o644, hasMode: true, size: 11, time: at(2026, 11, 23, 2, 29), when: "2026-11-23T02:29"}},
		{"-rwsr-Sr-t+   1 owner with space 0   8 Dec  1 23:59 x ", ftpLine{name: "x ", kind: 'f', mode: 0o7745, hasMode: true, size: 8, time: at(2025, 12, 1, 23, 59), when: "2025-12-01T23:59"}},
		{"drwxrwxr-x. 9 u 4096 Feb 29 2024 -d", ftpLine{name: "-d", kind: 'd', mode: 0o775, hasMode: true, size: SizeUnknown, time: at(2024, 2, 29, 0, 0), when: "2024-02-29"}},
		{"-rw-r--r--    1 0        0   1 Feb 29 10:00 leap", ftpLine{name: "leap", kind: 'f', mode: 0o644, hasMode: true, size: 1, time: at(2024, 2, 29, 10, 0), when: "2024-02-29T10:00"}},
		{"lrwxrwxrwx    1 0        0   4 Nov 23 02:29 a -> b -> c/d ", ftpLine{name: "a -> b", kind: 'l', mode: 0o777, hasMode: true, size: SizeUnknown, target: "c/d ", time: at(2026, 11, 23, 2, 29), when: "2026-11-23T02:29"}},
		{"lrwxrwxrwx    1 0        0   0 Nov 23 02:29 a -> b", ftpLine{name: "a", kind: 'l', mode: 0o777, hasMode: true, size: SizeUnknown, target: "b", time: at(2026, 11, 23, 2, 29), when: "2026-11-23T02:29"}},
		{"brw-rw----    1 root disk  8,   0 Nov 23 02:29 sda", ftpLine{name: "sda", kind: 'o', mode: 0o660, hasMode: true, size: SizeUnknown, time: at(2026, 11, 23, 2, 29), when: "2026-11-23T02:29"}},
		{"11-23-26  02:29AM       <DIR>          a dir", ftpLine{name: "a dir", kind: 'd', size: SizeUnknown, time: at(2026, 11, 23, 2, 29), when: "2026-11-23T02:29"}},
		{"11-23-2026  02:29PM              2245 a file", ftpLine{name: "a file", kind: 'f', size: 2245, time: at(2026, 11, 23, 14, 29), when: "2026-11-23T14:29"}},
		{"type=file;size=11;modify=20261123022903.5;UNIX.mode=0644;unique=1g2;  lead=x;y", ftpLine{name: " lead=x;y", kind: 'f', mode: 0o644, hasMode: true, size: 11, time: at(2026, 11, 23, 2, 29).Add(3500 * time.Millisecond)}},
		{"Type=OS.unix=slink:../a b;Size=3; l", ftpLine{name: "l", kind: 'l', size: 3, target: "../a b"}},
		{"type=file;size=3 no; last ;", ftpLine{name: "no; last ;", kind: 'f', size: 3}},
		{"type=OS.unix=slink:../a;size=4; l", ftpLine{name: "l", kind: 'l', size: 4, target: "../a"}},
		{"type=OS.unix=chr-8/1; null", ftpLine{name: "null", kind: 'o', size: SizeUnknown}},
		{"Type=DIR;Perm=el; Sub", ftpLine{name: "Sub", kind: 'd', size: SizeUnknown}},
	} {
		got, err := ftpAny(c.line)
		if err != nil || got != c.want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", c.line, got, err, c.want)
		}
	}
	for _, line := range []string{"total 12", "", "drwxr-xr-x 2 0 0 4096 Nov 23 02:29 .", "type=cdir; /", "type=pdir;modify=20261123022903; ..", "type=dir; .."} {
		if got, err := ftpAny(line); err != errFTPSkip {
			t.Errorf("%q: %+v, %v, want it left out", line, got, err)
		}
	}
	for _, line := range []string{"line", "-rw-r--r-- 1 0 0 x Nov 23 02:29 f", "-rw-r--r-- 1 0 0 5 Nov 32 02:29 f", "-rw-r--r-- 1 0 0 5 Nov 23 02:29", "-rw-r--r-- 1 0 0 -5 Nov 23 02:29 f",
		"+rw-r--r-- 1 0 0 5 Nov 23 02:29 f", "-rw-r--rq- 1 0 0 5 Nov 23 02:29 f", "type=file;size=-1; f", "type=file;size=99999999999999999999; f", "type=file;modify=20261332022903; f",
		"type=file;unix.mode=9; f", "type=file;", "11-23-26  02:29AM  many f", "11-23-26  02:29AM       <DIR>", "-rw-r--r-- 1 0 0 5 Feb 30 02:29 f"} {
		if got, err := ftpAny(line); err == nil || err == errFTPSkip {
			t.Errorf("%q: %+v, %v, want it refused", line, got, err)
		}
	}
}

// ftpAny reads a line of MLSD or LIST.
func ftpAny(line string) (ftpLine, error) {
	if facts, _, ok := strings.Cut(line, " "); ok && strings.Contains(facts, "=") || strings.HasPrefix(line, "type=") {
		return parseMLSD(line)
	}
	return parseLIST(line, ftpNow)
}

func TestFTPPorts(t *testing.T) {
	for msg, want := range map[string]int{"Entering Extended Passive Mode (|||6446|)": 6446, "ok (!!!1!)": 1, "(|||0|)": 0, "(|||65536|)": 0, "(|2|1.2.3.4|5|)": 0, "(|||": 0, "": 0} {
		if got, err := ftpPortEPSV(msg); got != want || (err == nil) != (want > 0) {
			t.Errorf("EPSV %q: %d, %v", msg, got, err)
		}
	}
	for msg, want := range map[string]int{"Entering Passive Mode (192,0,2,1,19,136).": 19<<8 + 136, "=127,0,0,1,0,21": 21, "(1,2,3,4,256,1)": 0, "(1,2,3,4,5)": 0, "(1,2,3,4,0,0)": 0, "1 2": 0} {
		if got, err := ftpPortPASV(msg); got != want || (err == nil) != (want > 0) {
			t.Errorf("PASV %q: %d, %v", msg, got, err)
		}
	}
	for msg, want := range map[string]string{`"/a ""b"" c" is it`: `/a "b" c`, `"/"`: "/", "what": "/", `"C:\x"`: "/", `"`: "/", `""`: "/"} {
		if got := ftpQuoted(msg); got != want {
			t.Errorf("PWD %q: %q, want %q", msg, got, want)
		}
	}
}

// Whatever a server lists, what is read of it makes sense, and an entry of it is checked by the crawler.
func FuzzFTPLine(f *testing.F) {
	for _, line := range []string{"-rw-r--r--    1 0        0              11 Nov 23 02:29  lead space", "lrwxrwxrwx    1 0        0   4 Nov 23 02:29 a -> b -> c/d ",
		"drwxrwxr-x. 9 u 4096 Feb 29 2024 -d", "11-23-26  02:29AM       <DIR>          a dir", "11-23-2026  02:29PM              2245 a file",
		"type=file;size=11;modify=20261123022903.5;UNIX.mode=0644;unique=1g2;  lead", "type=OS.unix=slink:../a;size=4; l", "total 7", "type=cdir; ."} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, parse := range []func(string) (ftpLine, error){parseMLSD, func(s string) (ftpLine, error) { return parseLIST(s, ftpNow) }} {
			l, err := parse(line)
			if err != nil {
				continue
			}
			if l.name == "" || l.size < SizeUnknown || l.mode > 0o7777 || l.kind == 0 || l.kind != ftpLink && l.target != "" || l.kind != ftpLink && !strings.HasSuffix(line, l.name) {
				t.Errorf("%q: %+v", line, l)
			}
			d := directory{path: "d"}
			e := Entry{Path: pathIn("d", l.name), Mode: ftpMode(l.kind) | l.mode, Size: l.size, Target: l.target}
			if d.check(&e) == nil && content.CheckPath(e.Path) != nil {
				t.Errorf("%q is taken as %q", line, e.Path)
			}
		}
	})
}

// Whatever a server answers, a port is one, and a directory begins at the top.
func FuzzFTPReply(f *testing.F) {
	for _, msg := range []string{"Entering Extended Passive Mode (|||6446|)", "Entering Passive Mode (192,0,2,1,19,136).", `"/a ""b"" c" is it`, "20261123022903.123", ""} {
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg string) {
		if port, err := ftpPortEPSV(msg); err == nil && (port < 1 || port > 65535) {
			t.Errorf("EPSV %q: %d", msg, port)
		}
		if port, err := ftpPortPASV(msg); err == nil && (port < 1 || port > 65535) {
			t.Errorf("PASV %q: %d", msg, port)
		}
		if dir := ftpQuoted(msg); !strings.HasPrefix(dir, "/") {
			t.Errorf("PWD %q: %q", msg, dir)
		}
		if at, err := ftpTime(msg); err == nil && at.Year() > 9999 {
			t.Errorf("MDTM %q: %v", msg, at)
		}
		if said := ftpSaid(msg); len(said) > 2000 || strings.ContainsAny(said, "\r\n\x1b") {
			t.Errorf("%q is shown as %q", msg, said)
		}
	})
}
