package policy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

var update = flag.Bool("update", false, "write what happens into the scripts of testdata")

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestTransferScripts runs the stories of testdata/*.txt. A line "> command" is an event or a "next"; the lines below
// it are what comes out. The commands are the cases of (*story).run.
func TestTransferScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("glob testdata: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playScript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
			}
		})
	}
}

// playScript runs a script and gives it back with what really came out.
func playScript(t *testing.T, script string) string {
	s := &story{now: epoch, open: map[RequestID]Request{}, came: map[RequestID]uint64{}}
	s.reset(TransferConfig{})
	var out strings.Builder
	skip := false // output of the command before
	for line := range strings.Lines(script) {
		text := strings.TrimSpace(line)
		cmd, isCmd := strings.CutPrefix(text, "> ")
		switch {
		case isCmd:
			res, err := s.run(strings.Fields(cmd))
			if err != nil {
				t.Fatalf("%q: %v", cmd, err)
			}
			out.WriteString(line + res)
			skip = true
		case text == "" || strings.HasPrefix(text, "#"):
			out.WriteString(line)
			skip = false
		case !skip:
			t.Fatalf("line %q belongs to no command", text)
		}
	}
	return out.String()
}

// story is a Transfer played by hand.
type story struct {
	t    *Transfer
	now  time.Time
	open map[RequestID]Request
	came map[RequestID]uint64 // bytes, for TransferConfig.Progress
}

func (s *story) reset(cfg TransferConfig) {
	cfg.Exempt = func(p gossip.PeerID) bool { return p == "publisher" }
	cfg.Progress = func(id RequestID) uint64 { return s.came[id] }
	s.t = NewTransfer(cfg, rand.New(rand.NewPCG(1, 1)))
}

func (s *story) run(f []string) (string, error) {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	id, _ := strconv.ParseUint(arg(1), 10, 64)
	switch f[0] {
	case "config":
		return "", s.config(f[1:])
	case "wait":
		d, err := time.ParseDuration(arg(1))
		s.now = s.now.Add(d)
		return "", err
	case "want": // want SEGMENT COUNTxKiB
		seg, _ := strconv.ParseUint(arg(1), 10, 32)
		n, size, _ := strings.Cut(arg(2), "x")
		count, _ := strconv.ParseUint(n, 10, 32)
		kib, err := strconv.ParseUint(size, 10, 32)
		s.t.Want(uint32(seg), func(uint32) uint32 { return uint32(kib) << 10 }, content.Full(uint32(count)))
		return "", err
	case "drop":
		s.t.Drop(uint32(id))
	case "unwant", "urge": // unwant SEGMENT:FIRST-LAST, urge (SEGMENT:FIRST-LAST)... [then (SEGMENT:FIRST-LAST)...]
		return "", s.reading(f[0], f[1:])
	case "found": // found PEER RTT
		d, err := time.ParseDuration(arg(2))
		s.t.Found(s.now, gossip.PeerID(arg(1)), d)
		return "", err
	case "gone": // gone PEER
		s.t.Gone(s.now, gossip.PeerID(arg(1)))
	case "holds": // holds PEER (below=N | SEGMENT | SEGMENT:FIRST-LAST | gone=SEGMENT)...
		h, err := parseHoldings(f[2:])
		s.t.Holds(s.now, gossip.PeerID(arg(1)), h)
		return "", err
	case "next":
		return s.next(), nil
	case "stats":
		return fmt.Sprintf("%+v\n", s.t.Stats()), nil
	case "unobtainable":
		return fmt.Sprintln(s.t.Unobtainable()), nil
	case "banned":
		return fmt.Sprintln(s.t.Banned(s.now)), nil
	default:
		return "", s.answer(f[0], RequestID(id), arg(2), arg(3))
	}
	return "", nil
}

// reading is what changes what somebody reads.
func (s *story) reading(cmd string, f []string) error {
	lists := [2][]content.Ref{}
	list := &lists[0]
	for _, a := range f {
		if a == "then" {
			list = &lists[1]
			continue
		}
		var seg, first, last uint32
		if n, err := fmt.Sscanf(a, "%d:%d-%d", &seg, &first, &last); n != 3 {
			return err
		}
		for i := first; i <= last; i++ {
			*list = append(*list, content.Ref{Segment: seg, Index: i})
		}
	}
	if cmd == "urge" {
		s.t.Urge(s.now, lists[0], lists[1])
		return nil
	}
	var b content.Bitmap
	for _, ref := range lists[0] {
		b.Set(ref.Index)
	}
	s.t.Unwant(lists[0][0].Segment, b)
	return nil
}

// answer is an event of a request: the commands got, began, done, finished, lacks, failed.
func (s *story) answer(cmd string, id RequestID, arg, arg2 string) error {
	r, known := s.open[id]
	if !known {
		return fmt.Errorf("no request %d", id)
	}
	switch cmd {
	case "got": // got REQUEST [COUNT]: its first chunks, all without a count
		count := r.Run.Count
		if n, err := strconv.ParseUint(arg, 10, 32); err == nil {
			count = uint32(n)
		}
		for i := range count {
			ref := content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}
			s.t.Got(s.now, r.ID, ref, uint32(r.Bytes/uint64(r.Run.Count)))
		}
	case "began": // began REQUEST: its first byte came
		s.t.Began(s.now, r.ID)
	case "came": // came REQUEST KIB: so much of its answer
		kib, err := strconv.ParseUint(arg, 10, 32)
		s.came[r.ID] = kib << 10
		return err
	case "done": // all of it came
		_ = s.answer("got", id, "", "")
		s.t.Finished(s.now, r.ID)
	case "finished":
		s.t.Finished(s.now, r.ID)
	case "lacks": // lacks REQUEST OFFSET
		i, err := strconv.ParseUint(arg, 10, 32)
		s.t.NotHere(s.now, r.ID, content.Ref{Segment: r.Run.Segment, Index: r.Run.First + uint32(i)})
		return err
	case "failed": // failed REQUEST KIND [RETRY]
		return s.failed(r, arg, arg2)
	default:
		return fmt.Errorf("no command %q", cmd)
	}
	return nil
}

func (s *story) failed(r Request, kind, arg string) error {
	why := Reason{Ref: content.Ref{Segment: r.Run.Segment, Index: r.Run.First}}
	kinds := map[string]ReasonKind{"nothere": NotHere, "busy": Busy, "timeout": Timeout, "bad": Bad, "broken": Broken}
	if why.Kind = kinds[kind]; why.Kind == 0 {
		return fmt.Errorf("no reason %q", kind)
	}
	if arg != "" {
		d, err := time.ParseDuration(arg)
		if err != nil {
			return err
		}
		why.RetryAfter = d
	}
	s.t.Failed(s.now, r.ID, why)
	return nil
}

func (s *story) config(f []string) error {
	var cfg TransferConfig
	for _, kv := range f {
		k, v, _ := strings.Cut(kv, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return err
		}
		switch k {
		case "inflight":
			cfg.InFlight = n << 20
		case "start":
			cfg.StartWindow = n << 20
		case "asks":
			cfg.PeerAsks = int(n)
		default:
			return fmt.Errorf("no setting %q", k)
		}
	}
	s.reset(cfg)
	return nil
}

func parseHoldings(f []string) (gossip.Holdings, error) {
	var h gossip.Holdings
	for _, a := range f {
		var seg, first, last uint32
		if n, _ := fmt.Sscanf(a, "below=%d", &seg); n == 1 {
			h.Below = seg
		} else if n, _ := fmt.Sscanf(a, "gone=%d", &seg); n == 1 {
			h.Gone = append(h.Gone, seg)
		} else if n, _ := fmt.Sscanf(a, "%d:%d-%d", &seg, &first, &last); n == 3 {
			var b content.Bitmap
			for i := first; i <= last; i++ {
				b.Set(i)
			}
			h.Partial = append(h.Partial, gossip.PartialSegment{Segment: seg, Chunks: b})
		} else if n, _ := fmt.Sscanf(a, "%d", &seg); n == 1 {
			h.Segments.Set(seg)
		} else {
			return h, fmt.Errorf("no holdings %q", a)
		}
	}
	return h, nil
}

// next prints a step: times as durations from now, runs as segment:first-last.
func (s *story) next() string {
	st := s.t.Next(s.now)
	var b strings.Builder
	for _, id := range st.Cancel {
		fmt.Fprintf(&b, "cancel %d at %s\n", id, s.open[id].Peer)
	}
	for _, p := range st.Banned {
		fmt.Fprintf(&b, "banned %s\n", p)
	}
	for _, seg := range st.Complete {
		fmt.Fprintf(&b, "complete %d\n", seg)
	}
	for _, r := range st.Ask {
		s.open[r.ID] = r
		fmt.Fprintf(&b, "ask %d: %s for %d:%d-%d, %d KiB\n", r.ID, r.Peer, r.Run.Segment, r.Run.First, r.Run.First+r.Run.Count-1, r.Bytes>>10)
	}
	var rest []string
	if st.Unobtainable > 0 {
		rest = append(rest, fmt.Sprintf("unobtainable %d", st.Unobtainable))
	}
	if !st.Wake.IsZero() {
		rest = append(rest, fmt.Sprintf("wake in %s", st.Wake.Sub(s.now)))
	}
	if st.Done {
		rest = append(rest, "done")
	}
	if len(rest) == 0 {
		rest = []string{"wait for an event"}
	}
	return b.String() + strings.Join(slices.Clip(rest), ", ") + "\n"
}
