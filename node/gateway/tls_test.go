package gateway

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trusting gives a client of HTTP/1.1 that asks for no name in a certificate.
func trusting() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "used.crt"), filepath.Join(dir, "used.key")
	use := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to+".new", append(data, '\n'), 0o600)
		}
		if err == nil {
			err = os.Rename(to+".new", to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	firstCert, firstKey := pairFor(t, dir, "first")
	secondCert, secondKey := pairFor(t, dir, "second")
	use(firstCert, certFile)
	use(firstKey, keyFile)
	var text strings.Builder
	p, err := loadPair(certFile, keyFile, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(name string, when string) {
		t.Helper()
		p.looked = time.Time{} // long ago
		pair, err := p.get(nil)
		if err != nil || pair.Leaf.Subject.CommonName != name {
			t.Errorf("%s: certificate of %s, %v, want that of %s", when, pair.Leaf.Subject.CommonName, err, name)
		}
	}
	expect("first", "at first")
	os.Remove(keyFile)
	expect("first", "while a file is replaced")
	use(secondCert, certFile)
	use(firstKey, keyFile)
	// Modification times may be equal to those before where the clock of the file system is coarse.
	os.Chtimes(keyFile, time.Time{}, time.Now().Add(time.Second))
	expect("first", "with the key of another certificate")
	expect("first", "the same again")
	if n := strings.Count(text.String(), "is not used"); n != 2 {
		t.Errorf("%d warnings, want one for each bad pair: %s", n, text.String())
	}
	use(secondKey, keyFile)
	os.Chtimes(keyFile, time.Time{}, time.Now().Add(2*time.Second))
	expect("second", "with both")
	use(firstCert, certFile)
	use(firstKey, keyFile)
	p.looked = time.Now()
	if pair, _ := p.get(nil); pair.Leaf.Subject.CommonName != "second" {
		t.Error("the files are looked at with each handshake")
	}
}
