package origin

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

// rsyncd is the sending half of rsync, for a directory, as its authors' programs do it: every name in full, small pieces.
type rsyncd struct {
	dir      string
	in       *bufio.Reader
	out      io.Writer
	files    []string
	excluded []string
	seed     int32
	missed   int32                   // the error bits after the list
	lie      func(sum []byte) []byte // what is sent instead of the sum of a file
	mute     bool                    // says nothing about files that cannot be read
	asked    *atomic.Int64           // files that were asked for
	extra    func(d *rsyncd)         // sends more entries
}

func (d *rsyncd) int() int32 {
	var b [4]byte
	if _, err := io.ReadFull(d.in, b[:]); err != nil {
		panic(err)
	}
	return int32(binary.LittleEndian.Uint32(b[:]))
}

func (d *rsyncd) frame(tag int, p []byte) {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(p))|uint32(tag+7)<<24)
	if _, err := d.out.Write(append(head, p...)); err != nil {
		panic(err)
	}
}

func ints(numbers ...int) (b []byte) {
	for _, n := range numbers {
		b = append(b, rsyncBytes(int32(n))...)
	}
	return b
}

// entry sends one of the list. 0x40 says that the length of the name has four bytes.
func (d *rsyncd) entry(name string, size, mtime int64, mode uint32, target string) {
	b := append([]byte{rsyncLongName}, ints(len(name))...)
	b = append(b, name...)
	if size > 1<<31-1 || size < 0 {
		b = binary.LittleEndian.AppendUint64(append(b, ints(-1)...), uint64(size))
	} else {
		b = append(b, ints(int(size))...)
	}
	b = append(b, ints(int(mtime), int(mode))...)
	if mode&0o170000 == 0o120000 {
		b = append(append(b, ints(len(target))...), target...)
	}
	d.frame(0, b)
}

// run does all after the greeting. It panics when the connection ends.
func (d *rsyncd) run() {
	if _, err := d.out.Write(ints(int(d.seed))); err != nil {
		panic(err)
	}
	for n := d.int(); n != 0; n = d.int() {
		p := make([]byte, n)
		_, _ = io.ReadFull(d.in, p)
		d.excluded = append(d.excluded, string(p))
	}
	_ = filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(d.dir, p)
		info, _ := e.Info()
		kind := uint32(0o100000)
		if e.IsDir() {
			kind = 0o040000
		} else if e.Type() == fs.ModeSymlink {
			kind = 0o120000
		}
		target, _ := os.Readlink(p)
		d.files = append(d.files, name)
		d.entry(name, info.Size(), info.ModTime().Unix(), kind|uint32(info.Mode().Perm()), target)
		return nil
	})
	if d.extra != nil {
		d.extra(d)
	}
	slices.Sort(d.files)
	d.frame(0, append([]byte{0}, ints(int(d.missed))...))
	for phase := 0; ; {
		n := d.int()
		if n < 0 {
			d.frame(0, ints(-1))
			if phase++; phase > 1 {
				break
			}
			continue
		}
		sums := d.sums()
		if d.asked != nil {
			d.asked.Add(1)
		}
		d.send(n, sums)
	}
	d.int()
}

func (d *rsyncd) send(n int32, sums blockSums) {
	data, err := os.ReadFile(filepath.Join(d.dir, d.files[n]))
	if err != nil {
		if !d.mute {
			d.frame(1, fmt.Appendf(nil, "rsync: [sender] send_files failed to open %q: No such file or directory (2)\n", d.files[n]))
		}
		return
	}
	d.frame(0, ints(int(n), 0, 700, 2, 0))
	sum := md4.New()
	sum.Write(append(ints(int(d.seed)), data...))
	for len(data) > 0 {
		if token, ok := sums.find(d.seed, data); ok {
			d.frame(0, ints(^token))
			data = data[sums.block:]
			continue
		}
		piece := data[:min(len(data), 32<<10)]
		data = data[len(piece):]
		d.frame(0, ints(len(piece)))
		d.frame(2, []byte("a message in between\n"))
		d.frame(0, piece[:len(piece)/2])
		d.frame(0, piece[len(piece)/2:])
	}
	end := sum.Sum(nil)
	if d.lie != nil {
		end = d.lie(end)
	}
	d.frame(0, append(ints(0), end...))
}

// quiet runs a server until its connection ends.
func quiet(f func()) {
	defer func() { _ = recover() }() // the client has hung up
	f()
}

// startRsyncd starts a daemon with the module "mod". change is told of each connection, with its number.
func startRsyncd(t *testing.T, dir string, change func(d *rsyncd, n int, conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				d := &rsyncd{dir: dir, in: bufio.NewReader(conn), out: conn, seed: 0x1234567}
				if change != nil {
					change(d, n, conn)
				}
				quiet(func() {
					if d.greet() {
						d.run()
					}
				})
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// greet is what a daemon says before it runs rsync. Module "locked" wants the password "opensesame" of joe.
func (d *rsyncd) greet() bool {
	line := func() string {
		s, err := d.in.ReadString('\n')
		if err != nil {
			panic(err)
		}
		return strings.TrimSuffix(s, "\n")
	}
	fmt.Fprint(d.out, "@RSYNCD: 31.0 sha512 md5\nWelcome!\n\n")
	if got := line(); got != "@RSYNCD: 27" {
		panic(got)
	}
	switch module := line(); module {
	case "locked":
		fmt.Fprint(d.out, "@RSYNCD: AUTHREQD challenge\n")
		sum := md4.New()
		sum.Write([]byte("\x00\x00\x00\x00opensesamechallenge"))
		if line() != "joe "+base64.RawStdEncoding.EncodeToString(sum.Sum(nil)) {
			fmt.Fprint(d.out, "@ERROR: auth failed on module locked\n")
			return false
		}
	case "busy":
		fmt.Fprint(d.out, "@ERROR: max connections (1) reached -- try again later\n")
		return false
	case "mod":
	default:
		fmt.Fprintf(d.out, "@ERROR: Unknown module '%s'\n", module)
		return false
	}
	fmt.Fprint(d.out, "@RSYNCD: OK\n")
	for line() != "" {
	}
	return true
}
