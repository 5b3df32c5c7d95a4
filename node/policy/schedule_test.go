package policy

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests know Berlin on every machine
)

func TestScheduleAt(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time { // local time; what is there twice is the first
		d, err := time.ParseInLocation("2006-01-02 15:04:05", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	utc := func(text string) time.Time {
		d, err := time.Parse("2006-01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return d.In(berlin)
	}
	const office = "Mon-Fri 08:00-18:00 upload=5Mbit"
	const night = "Fri 22:00-06:00 upload=none"
	for _, c := range []struct {
		why      string
		schedule []string
		now      time.Time
		want     string // upload/download; the base is 20Mbit/100Mbit
	}{
		{"before the office opens", []string{office}, at("2026-11-23 07:59:59"), "20Mbit/100Mbit"}, // a Monday
		{"as it opens", []string{office}, at("2026-11-23 08:00:00"), "5Mbit/100Mbit"},
		{"before it closes", []string{office}, at("2026-11-27 17:59:59"), "5Mbit/100Mbit"},
		{"as it closes", []string{office}, at("2026-11-27 18:00:00"), "20Mbit/100Mbit"},
		{"on Saturday", []string{office}, at("2026-11-28 12:00:00"), "20Mbit/100Mbit"},
		{"on Friday night", []string{night}, at("2026-11-27 22:00:00"), "none/100Mbit"},
		{"which is Friday's still on Saturday", []string{night}, at("2026-11-28 05:59:59"), "none/100Mbit"},
		{"and then over", []string{night}, at("2026-11-28 06:00:00"), "20Mbit/100Mbit"},
		{"Thursday's night is another", []string{night}, at("2026-11-27 03:00:00"), "20Mbit/100Mbit"},
		{"Saturday's too", []string{night}, at("2026-11-28 23:00:00"), "20Mbit/100Mbit"},
		{"Saturday to Sunday, over the end of the week", []string{"Sat 22:00-06:00 upload=1Mbit"}, at("2026-11-29 01:00:00"), "1Mbit/100Mbit"},
		{"a range over the end of the week", []string{"Fri-Mon download=1MB"}, at("2026-11-29 12:00:00"), "20Mbit/8Mbit"},
		{"outside of it", []string{"Fri-Mon download=1MB"}, at("2026-11-24 00:00:00"), "20Mbit/100Mbit"},
		{"days one by one", []string{"sat,SUN upload=50Mbit"}, at("2026-11-29 00:00:00"), "50Mbit/100Mbit"},
		{"the last one counts, for each by itself", []string{"upload=1Mbit download=1Mbit", "12:00-13:00 upload=2Mbit"}, at("2026-11-24 12:30:00"), "2Mbit/1Mbit"},
		{"to the end of the day", []string{"23:00-24:00 upload=1Mbit"}, at("2026-11-24 23:59:59"), "1Mbit/100Mbit"},
		{"and no longer", []string{"23:00-24:00 upload=1Mbit"}, at("2026-11-25 00:00:00"), "20Mbit/100Mbit"},

		// Clocks go forward at 02:00 on 2026-03-29 (01:00 UTC) and back at 03:00 on 2026-10-25 (01:00 UTC).
		{"before the hour that is not there", []string{"02:00-03:00 upload=1Mbit"}, utc("2026-03-29 00:59:59"), "20Mbit/100Mbit"},
		{"after it", []string{"02:00-03:00 upload=1Mbit"}, utc("2026-03-29 01:00:00"), "20Mbit/100Mbit"},
		{"a night that is short", []string{"Sat 22:00-06:00 upload=1Mbit"}, utc("2026-03-29 03:59:59"), "1Mbit/100Mbit"}, // 05:59:59
		{"and ends at six", []string{"Sat 22:00-06:00 upload=1Mbit"}, utc("2026-03-29 04:00:00"), "20Mbit/100Mbit"},
		{"the hour that is there twice, first", []string{"02:00-03:00 upload=1Mbit"}, utc("2026-10-25 00:30:00"), "1Mbit/100Mbit"},
		{"and again", []string{"02:00-03:00 upload=1Mbit"}, utc("2026-10-25 01:30:00"), "1Mbit/100Mbit"},
		{"a night that is long", []string{"Sat 22:00-06:00 upload=1Mbit"}, utc("2026-10-25 04:59:59"), "1Mbit/100Mbit"},
		{"and ends at six, too", []string{"Sat 22:00-06:00 upload=1Mbit"}, utc("2026-10-25 05:00:00"), "20Mbit/100Mbit"},
	} {
		s, err := ParseSchedule(c.schedule)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		l, why := s.At(c.now, Limits{Upload: 2_500_000, Download: 12_500_000})
		if got := l.Upload.String() + "/" + l.Download.String(); got != c.want {
			t.Errorf("%s (%s, %q): got %s because of %q, want %s", c.why, c.now, c.schedule, got, why, c.want)
		}
	}
}

func TestParsePeriodRefuses(t *testing.T) {
	for _, text := range []string{
		"", "Mon-Fri", "Mon-Fri 08:00-18:00", "Mo upload=5Mbit", "Mon- upload=5Mbit", "08:00 upload=5Mbit", "8-18 upload=5Mbit", "08:00-25:00 upload=5Mbit",
		"08:60-09:00 upload=5Mbit", "08:00-08:00 upload=5Mbit", "24:00-06:00 upload=5Mbit", "08:00-18:00 upload", "08:00-18:00 upload=5", "08:00-18:00 disk=5GB",
		"08:00-18:00 monthly=5GB", "upload=5Mbit upload=6Mbit", "upload=5Mbit 08:00-18:00", "08:0-18:00 upload=5Mbit", "-08:00-18:00 upload=5Mbit", "Mon,,Tue upload=5Mbit",
	} {
		if p, err := ParsePeriod(text); err == nil {
			t.Errorf("%q was taken: %+v", text, p)
		} else if !strings.Contains(err.Error(), "schedule") {
			t.Errorf("%q: %v does not say what it is about", text, err)
		}
	}
	if _, err := ParseSchedule(make([]string, maxSchedule+1)); err == nil {
		t.Error("a schedule without end was taken")
	}
}

func FuzzParsePeriod(f *testing.F) {
	f.Add("Mon-Fri 08:00-18:00 upload=5Mbit")
	f.Add("Sat,Sun 22:00-06:00 upload=none download=2.5MB")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePeriod(text)
		if err != nil {
			return
		}
		again, err := ParsePeriod(p.String())
		if err != nil {
			t.Fatalf("%q is written as %q, which is refused: %v", text, p, err)
		}
		for h := range 7 * 24 {
			if at := now.Add(time.Duration(h) * time.Hour); p.holds(at) != again.holds(at) {
				t.Fatalf("%q and %q differ at %s", text, p, at)
			}
		}
	})
}

func TestMonths(t *testing.T) {
	at := func(text string) time.Time {
		d, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var m Months
	for _, day := range []string{"2026-11-01", "2026-11-30", "1970-01-01", "2026-11-30", "2027-05-01", "2026-11-30"} {
		m.At(at(day)).Sent += 10
	}
	if got := *m.At(at("2026-11-30")); got.Sent != 40 || got.Name != "2026-11" {
		t.Errorf("in the month that it is: %+v, want 40 sent in 2026-11", got)
	}
	if got := m.At(at("2026-12-01")).Sent; got != 0 {
		t.Errorf("a new month begins at %d", got)
	}
	for i := range 40 {
		m.At(at("2026-11-30").AddDate(0, i, 0))
	}
	if len(m) != maxMonths {
		t.Errorf("%d months are remembered, want %d", len(m), maxMonths)
	}
	for in, want := range map[string]string{"2026-11-22": "2026-12-01", "2026-12-31": "2027-01-01", "2028-02-29": "2028-03-01"} {
		if got := MonthEnds(at(in)).Format(time.DateOnly); got != want {
			t.Errorf("the month of %s ends at %s, want %s", in, got, want)
		}
	}
}
