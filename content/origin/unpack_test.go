package origin

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"swarmnode/content"
)

func writeArmored(t testing.TB, f io.Writer, k *openpgp.Entity) {
	t.Helper()
	w, err := armor.Encode(f, openpgp.PublicKeyType, nil)
	if err == nil {
		err = k.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		_, err = io.WriteString(f, "\n")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// testLongest is how long unpacked indexes may be in tests.
const testLongest = 4 << 20

// gzipBomb is an index of comment lines, which readers skip, of more than testLongest bytes.
func gzipBomb(t testing.TB) string {
	t.Helper()
	return packGzip(t, strings.Repeat("#"+strings.Repeat("x", 1000)+"\n", testLongest/1000+1))
}

func TestUnpack(t *testing.T) {
	text := strings.Repeat("some text that repeats itself, ", 10_000)
	for name, packed := range map[string]string{"a": text, "a.gz": packGzip(t, text), "a.zst": packZstd(t, text), "a.xz": packXZ(t, text),
		"two.xz": packXZ(t, text[:1000]) + packXZ(t, text[1000:]), "padded.xz": packXZ(t, text) + "\x00\x00\x00\x00", "empty.xz": packXZ(t, "") + packXZ(t, text)} {
		r, err := unpack(name, []byte(packed), testLongest)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != text || r.Close() != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if name == "a" {
			continue
		}
		if r, err = unpack(name, []byte(packed[:len(packed)/2]), testLongest); err != nil {
			continue
		}
		if _, err := io.ReadAll(r); err == nil {
			t.Errorf("%s: half of it is read without an error", name)
		}
	}
	for _, name := range []string{"a.lzma", "a.lz4"} {
		if _, err := unpack(name, nil, testLongest); err == nil || unpackable(name) {
			t.Errorf("%s can be read?", name)
		}
	}
}

// TestPileCompacts names more files than are gathered at once, most of them twice, one with two hashes.
func TestPileCompacts(t *testing.T) {
	const n = 1000
	p := &pile{o: &Options{}, next: n * 3 / 4}
	for range 2 {
		for i := range n {
			if err := p.add(filed{path: fmt.Sprintf("pool/%d/%06d", i%7, i), size: int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 3 {
		if err := p.add(filed{path: "pool/0/000000", size: int64(i % 2)}); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := p.emit(func(e Entry) error {
		if e.IsFile() {
			files++
		}
		return nil
	})
	if err != nil || files != n-1 || len(p.bad) != 1 || p.bad[0].Path != "pool/0/000000" {
		t.Errorf("%d files, want %d; %v %v", files, n-1, err, p.bad)
	}
	long := &pile{o: &Options{}, long: 100 * n}
	for i := 0; err == nil && i < 10*n; i++ {
		err = long.add(filed{path: fmt.Sprintf("%0200d", i)})
	}
	if err == nil || !strings.Contains(err.Error(), "bytes together") || len(long.files) != n || long.names != 200*n {
		t.Errorf("long names: %v after %d", err, len(long.files))
	}
	err = nil
	for i := 0; err == nil && i < 10*n; i++ { // the same few again and again
		err = long.add(filed{path: fmt.Sprintf("%0200d", i%10)})
	}
	long.refuse(strings.Repeat("x", 1<<20), errors.New("x"))
	if len(long.bad[0].Path) != content.MaxPath {
		t.Errorf("a path of %d bytes is kept", len(long.bad[0].Path))
	}
	endless := &pile{o: &Options{}, next: n / 10, most: n}
	for i := 0; err == nil && i < 10*n; i++ {
		err = endless.add(filed{path: fmt.Sprintf("%07d", i)})
	}
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || len(endless.files) > 2*n {
		t.Errorf("endless: %v after %d", err, len(endless.files))
	}
}

// TestUnpackBounds: what asks for too much memory is refused before it has it.
func TestUnpackBounds(t *testing.T) {
	packed := []byte(packXZ(t, "text"))
	packed[12+4] = 40 // the dictionary: 4 GiB; the header's checksum is not looked at
	if packed[12+2] != 0x21 {
		t.Fatal("the block's header is not where it was thought to be")
	}
	r, err := unpack("a.xz", packed, testLongest)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if err == nil || !strings.Contains(err.Error(), "dictionary of 4294967295 bytes") {
		t.Errorf("a dictionary of 4 GiB: %v", err)
	}
	u := &unpacked{in: zeros{}, left: 1 << 20}
	if n, err := io.Copy(io.Discard, u); !errors.Is(err, errUnpackedSize) || n > 1<<20 {
		t.Errorf("endless: %d bytes, %v", n, err)
	}
}

func TestSooner(t *testing.T) {
	best := filed{path: "Packages", size: 1}
	for _, f := range []filed{{path: "Packages.bz2", size: 9}, {path: "Packages.zst", size: MaxDirectoryBytes + 1}, {path: "Packages.gz", size: 9}, {path: "Packages.xz", size: 3}} {
		if sooner(f, best) {
			best = f
		}
	}
	if best.path != "Packages.gz" {
		t.Errorf("read is %s, want Packages.gz", best.path)
	}
	if a := (filed{path: "Packages.xz", size: 1}); sooner(filed{path: "Packages", size: 1}, a) || !sooner(a, filed{path: "Packages", size: 1}) {
		t.Error("what is not compressed comes before what is")
	}
}
