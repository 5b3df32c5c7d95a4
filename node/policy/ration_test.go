package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func net24(i int) netip.Prefix { return Group(netip.AddrFrom4([4]byte{10, 0, byte(i), 9})) }

// greedy has everybody ask for a piece again as soon as the last was granted, for a while of pretended time, and gives what each
// asker got. group says whose asker i is.
func greedy(r *Ration, askers int, group func(i int) netip.Prefix, piece int64, from time.Time, long time.Duration) []int64 {
	got := make([]int64, askers)
	who := map[Ticket]int{}
	ask := func(now time.Time, i int) { who[r.Ask(now, group(i), piece)] = i }
	for i := range askers {
		ask(from, i)
	}
	for now := from; now.Sub(from) <= long; {
		granted, wake := r.Next(now)
		for _, t := range granted {
			got[who[t]] += piece
			ask(now, who[t])
			delete(who, t)
		}
		if len(granted) == 0 {
			now = wake
		}
	}
	for t := range who {
		r.Cancel(t)
	}
	return got
}

func sum(list []int64) (all int64) {
	for _, n := range list {
		all += n
	}
	return all
}

func TestRationKeepsTheRate(t *testing.T) {
	const rate = 2_500_000 // 20 Mbit/s
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := NewRation()
	r.SetRate(start, rate)
	got := sum(greedy(r, 30, net24, r.Piece(), start, time.Minute))
	if least, most := int64(60*rate-maxPiece), int64(60*rate+rate/burstShare); got < least || got > most {
		t.Errorf("in a minute %d bytes were granted, want %d to %d", got, least, most)
	}
}

func TestRationIsFairToNetworks(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := NewRation()
	r.SetRate(start, 1_000_000)
	// 30 askers in one network, one in each of three others
	got := greedy(r, 33, func(i int) netip.Prefix { return net24(max(0, i-29)) }, r.Piece(), start, 20*time.Second)
	crowd := sum(got[:30])
	for i, n := range got[30:] {
		if ratio := float64(n) / float64(crowd); ratio < 0.95 || ratio > 1.05 {
			t.Errorf("network %d with one asker got %d bytes, the one with thirty %d", i+1, n, crowd)
		}
	}
}

// A network that was silent has saved nothing up, and one that asked much has no debt for later.
func TestRationForgetsThePast(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := NewRation()
	r.SetRate(start, 1_000_000)
	greedy(r, 1, net24, r.Piece(), start, 10*time.Second)
	got := greedy(r, 2, net24, r.Piece(), start.Add(11*time.Second), 10*time.Second)
	if ratio := float64(got[1]) / float64(got[0]); ratio < 0.95 || ratio > 1.05 {
		t.Errorf("the one that had all before got %d, the new one %d", got[0], got[1])
	}
	if len(r.ends) > 4 {
		t.Errorf("%d networks are remembered", len(r.ends))
	}
}

// Whatever is asked, cancelled, charged and changed: in no stretch of time more is granted than the bucket has.
func TestRationNeverMore(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		const rate = 100_000
		r := NewRation()
		start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		now := start
		r.SetRate(now, rate)
		bytes := map[Ticket]int64{}
		type gift struct {
			at    time.Time
			bytes int64
		}
		var gifts []gift
		for range 2000 {
			switch rng.IntN(4) {
			case 0:
				now = now.Add(time.Duration(rng.IntN(200)) * time.Millisecond)
			case 1:
				for t := range bytes {
					if rng.IntN(20) == 0 {
						r.Cancel(t)
						delete(bytes, t)
					}
				}
			default:
				n := 1 + rng.Int64N(r.Piece())
				bytes[r.Ask(now, net24(rng.IntN(5)), n)] = n
			}
			granted, wake := r.Next(now)
			for _, g := range granted {
				gifts = append(gifts, gift{now, bytes[g]})
				delete(bytes, g)
			}
			if (r.Waiting() > 0) != !wake.IsZero() || len(bytes) != r.Waiting() {
				t.Fatalf("seed %d: %d wait, %d known, to be woken at %v", seed, r.Waiting(), len(bytes), wake)
			}
		}
		for i := range gifts {
			all := int64(0)
			for j := i; j < min(len(gifts), i+200); j++ {
				all += gifts[j].bytes
				most := int64(rate*gifts[j].at.Sub(gifts[i].at).Seconds()) + int64(r.burst) + 1
				if all > most {
					t.Fatalf("seed %d: from grant %d to %d %d bytes, want at most %d", seed, i, j, all, most)
				}
			}
		}
	}
}

func TestRationChanges(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := NewRation()
	one := r.Ask(start, net24(1), 1<<20)
	if granted, wake := r.Next(start); len(granted) != 1 || granted[0] != one || !wake.IsZero() {
		t.Errorf("without a limit: granted %v, wake %v", granted, wake)
	}
	r.SetRate(start, int64(MinRate))
	r.Ask(start, net24(1), 8000)
	if granted, wake := r.Next(start); len(granted) != 0 || !wake.After(start) {
		t.Errorf("right after a limit was set: granted %v, wake %v", granted, wake)
	}
	r.SetRate(start.Add(time.Millisecond), 1e9)
	if granted, _ := r.Next(start.Add(10 * time.Millisecond)); len(granted) != 1 {
		t.Errorf("after the limit was raised: granted %v", granted)
	}
	r.Ask(start.Add(time.Second), net24(1), 1<<20)
	r.SetRate(start.Add(time.Second), 0)
	if granted, wake := r.Next(start.Add(time.Second)); len(granted) != 1 || !wake.IsZero() {
		t.Errorf("after the limit was lifted: granted %v, wake %v", granted, wake)
	}
}

func TestGroup(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
	} {
		if got := Group(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s is of %s, want %s", in, got, want)
		}
	}
	if got := Group(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address is of %s", got)
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]Rate{
		"20Mbit": 2_500_000, "20 Mbit/s": 2_500_000, "1Gbit": 125_000_000, "800kbit": 100_000, "2.5MB": 2_500_000, "100kB/s": 100_000, "1GB": 1e9,
		"20mbit": 2_500_000, "none": 0, " none ": 0, "64kbit": 8000, "8000B": 8000, "80000bit": 10000,
		"20": -1, "": -1, "20Mb": -1, "20mb": -1, "-5Mbit": -1, "5Tbit": -1, "0Mbit": -1, "1kbit": -1, "Mbit": -1, "5Mbit/h": -1, "99999999999999999999GB": -1,
	} {
		got, err := ParseRate(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for rate, want := range map[Rate]string{0: "none", 2_500_000: "20Mbit", 100_000: "800kbit", 8000: "64kbit", 1e9: "8Gbit", 2_562_500: "20.5Mbit"} {
		if rate.String() != want {
			t.Errorf("%d bytes a second are %q, want %q", int64(rate), rate, want)
		}
		var again Rate
		if err := again.Set(rate.String()); err != nil || again != rate {
			t.Errorf("%q is read as %d, %v", rate, again, err)
		}
	}
	var l Limits
	for _, c := range [][2]string{{"upload", "5Mbit"}, {"download", "1MB"}, {"monthly", "2TB"}} {
		if err := l.Set(c[0], c[1]); err != nil {
			t.Error(err)
		}
	}
	if want := (Limits{Upload: 625_000, Download: 1_000_000, Monthly: 2e12}); l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
	for _, c := range [][2]string{{"disk", "5GB"}, {"upload", "5"}, {"monthly", "0"}, {"monthly", "much"}, {"monthly", "20"}, {"monthly", "1.5"}} {
		if err := l.Set(c[0], c[1]); err == nil {
			t.Errorf("%s=%s was taken", c[0], c[1])
		}
	}
	if got := fmt.Sprint(l.Upload); got != "5Mbit" {
		t.Errorf("after bad values upload is %s", got)
	}
}

// What is spent without asking is paid for by those who ask: all together is the rate. The debt ends soon after that ends.
func TestRationPaysWhatWasSpent(t *testing.T) {
	const rate = 1_000_000
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := NewRation()
	r.SetRate(start, rate)
	now, granted := start, int64(0)
	r.Ask(now, net24(1), maxPiece)
	for range 2000 { // 20 s, and a fifth of the rate is spent elsewhere
		now = now.Add(time.Second / 100)
		r.Spend(now, rate/500)
		for got, _ := r.Next(now); len(got) > 0; got, _ = r.Next(now) {
			granted += maxPiece
			r.Ask(now, net24(1), maxPiece)
		}
	}
	if want := int64(16 * rate); granted < want-maxPiece || granted > want+rate/burstShare {
		t.Errorf("beside a fifth of the rate %d bytes were granted in 20 s, want %d", granted, want)
	}
	r.Spend(now, 100*rate)
	got, wake := r.Next(now)
	if wait := wake.Sub(now); len(got) != 0 || wait < mostDebt*time.Second || wait > (mostDebt+1)*time.Second {
		t.Errorf("after too much: %d granted, the next in %s", len(got), wait)
	}
	r.SetRate(now, 0)
	r.Spend(now, rate)
	if got, _ := r.Next(now); len(got) != 1 {
		t.Error("without a limit it waits for what was spent")
	}
}

// A network with a single asker that is late now and then has as much as one with many, who never are.
func TestRationWaitsForTheLate(t *testing.T) {
	const rate, late = 2_500_000, 120 * time.Millisecond
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r, rng := NewRation(), rand.New(rand.NewPCG(7, 7))
	r.SetRate(start, rate)
	var alone, crowd int64
	for range 10 {
		r.Ask(start, net24(1), maxPiece)
	}
	single := r.Ask(start, net24(2), maxPiece)
	asks := time.Time{} // when the single one asks again; zero while it waits
	for now := start; now.Sub(start) < 30*time.Second; now = now.Add(time.Millisecond) {
		if !asks.IsZero() && !asks.After(now) {
			single, asks = r.Ask(now, net24(2), maxPiece), time.Time{}
		}
		granted, _ := r.Next(now)
		for _, g := range granted {
			if g != single {
				crowd += maxPiece
				r.Ask(now, net24(1), maxPiece)
				continue
			}
			alone += maxPiece
			asks = now.Add(time.Millisecond)
			if rng.IntN(10) == 0 {
				asks = now.Add(late)
			}
		}
	}
	if ratio := float64(alone) / float64(crowd); ratio < 0.95 || ratio > 1.05 {
		t.Errorf("one that is late now and then got %d bytes, many who are not %d", alone, crowd)
	}
}
