package origin

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"swarmnode/content"
)

// The decoders of what a repository says: no panic, no name that our rules refuse, and what is given is sorted and whole.

// checkPile emits a pile and looks at each path.
func checkPile(t *testing.T, p *pile) {
	t.Helper()
	last, dirs := "", map[string]bool{"": true}
	err := p.emit(func(e Entry) error {
		if last != "" && content.ComparePaths(last, e.Path) >= 0 {
			t.Fatalf("%q after %q", e.Path, last)
		}
		last = e.Path
		if !dirs[e.Path[:max(strings.LastIndexByte(e.Path, '/'), 0)]] {
			t.Fatalf("%q without its directory", e.Path)
		}
		if e.IsDir() {
			dirs[e.Path] = true
		}
		if err := content.CheckPath(e.Path); err != nil || e.Size < SizeUnknown || e.IsFile() && e.Stamp == "" {
			t.Fatalf("%+v: %v", e, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

const aSum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func FuzzRelease(f *testing.F) {
	f.Add("dists/x", []byte("Date: Mon, 23 Nov 2026 09:00:00 UTC\nComponents: main\nArchitectures: amd64\nAcquire-By-Hash: yes\nSHA256:\n "+aSum+" 1 main/binary-amd64/Packages\nSHA512:\n "+aSum+aSum+" 1 main/binary-amd64/Packages\n"))
	f.Add("", []byte("SHA256:\r\n x\r\n\r\nSHA256: y"))
	f.Add("", []byte(" x\n"))
	f.Fuzz(func(t *testing.T, dir string, data []byte) {
		rel, err := parseRelease(dir, data)
		if err != nil {
			return
		}
		want := selection{components: []string{"main"}, architectures: []string{"amd64"}}
		for _, x := range rel.indexes {
			if x.size < 0 || x.sum.IsZero() && !strings.Contains(strings.ToLower(string(data)), strings.Repeat("0", 64)) {
				t.Fatalf("%+v", x)
			}
			want.wants(x.name)
		}
		_ = want.check(rel)
	})
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte("Package: a\nSection: games\nFilename: pool/a.deb\nSize: 1\nSHA256: "+aSum+"\n\nPackage: b\nFilename: pool/a.deb/x\nSize: 1\nSHA256: "+aSum+"\n"), "games", false)
	f.Add([]byte("Package: a\nDirectory: pool/a\nChecksums-Sha256:\n "+aSum+" 1 a.dsc\n "+aSum+" 2 a.tar\n"), "", true)
	f.Add([]byte("#\n a\n\nA\n"), "", false)
	f.Fuzz(func(t *testing.T, data []byte, section string, sources bool) {
		p := &pile{o: &Options{}}
		want := &selection{}
		if section != "" {
			want.sections = []string{section}
		}
		read := readPackages
		if sources {
			read = readSources
		}
		_ = read(bytes.NewReader(data), want, p) // what came before the error is looked at
		checkPile(t, p)
	})
}

func FuzzRepomd(f *testing.F) {
	f.Add([]byte(`<repomd><data type="primary"><checksum type="sha256">`+aSum+`</checksum><location href="repodata/p.xml"/><size>3</size></data></repomd>`), false)
	f.Add([]byte(`<metadata><package type="rpm"><name>a</name><checksum type="sha512">`+aSum+aSum+`</checksum><size package="1"/><location xml:base="." href="a.rpm"/></package></metadata>`), true)
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><metadata><package>&a;</package></metadata>`), true)
	f.Fuzz(func(t *testing.T, data []byte, primary bool) {
		p := &pile{o: &Options{}}
		if primary {
			_ = readPrimary(bytes.NewReader(data), p.add, p.refuse)
		} else {
			made, err := readRepomd(bytes.NewReader(data), func(_ string, f filed) error { return p.add(f) }, p.refuse)
			if _, bad := made.MarshalJSON(); err == nil && bad != nil {
				t.Fatal(bad)
			}
		}
		_ = readTreeinfo(bytes.NewReader(data), p.add)
		checkPile(t, p)
	})
}

func FuzzSigned(f *testing.F) {
	key := newSigner(f, "fuzz", testDay.AddDate(-1, 0, 0), 0)
	text := "Suite: stable\n- dashed\n"
	f.Add([]byte(signClear(f, key, testDay, text)), false)
	f.Add([]byte(signDetached(f, key, testDay, text)), true)
	f.Add([]byte(beginSigned+"\nHash: SHA512\n\nx\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"), false)
	ring, err := readKeyring(writeKeyring(f, false, key))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, detached bool) {
		_, _ = parseKeys(data)
		if detached {
			signature, err := dearmor(data)
			if err == nil && ring.check("x", []byte("another text"), signature, testDay) == nil {
				t.Fatal("a text that was not signed is accepted")
			}
			return
		}
		got, signed, signature, err := splitSigned(data)
		if err != nil || ring.check("x", signed, signature, testDay) != nil {
			return
		}
		if !sameText(got, []byte(text)) {
			t.Fatalf("%q is accepted, which was not signed", got)
		}
	})
}

func FuzzKeys(f *testing.F) {
	key := newSigner(f, "archive", testDay.AddDate(-1, 0, 0), 0)
	var binary, armored bytes.Buffer
	if err := key.Serialize(&binary); err != nil {
		f.Fatal(err)
	}
	writeArmored(f, &armored, key)
	f.Add(binary.Bytes())
	f.Add(armored.Bytes())
	f.Add(append([]byte("-----END PGP\n"), bytes.Repeat(armored.Bytes(), 2)...))
	ring := &keyring{file: "ring", keys: openpgp.EntityList{key}}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if ring.hold(data) != nil {
			return
		}
		for _, e := range keys {
			if err != nil || !bytes.Equal(e.PrimaryKey.Fingerprint, key.PrimaryKey.Fingerprint) {
				t.Fatalf("a key that the ring has not is taken, %v", err)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	for name, data := range map[string]string{".xz": packXZ(f, "some text") + packXZ(f, "more"), ".gz": packGzip(f, "text"), ".zst": packZstd(f, "text")} {
		f.Add(name, []byte(data))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !slices.Contains([]string{".xz", ".gz", ".zst", ".bz2", ""}, name) {
			return
		}
		r, err := unpack("x"+name, data, testLongest)
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.Copy(io.Discard, r) // any bytes may end in an error, none in a panic
	})
}
