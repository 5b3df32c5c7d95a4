package origin

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestMaxAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"14d": 14 * day, "1d": day, "36500d": 36500 * day, "36h": 36 * time.Hour, "90m": 90 * time.Minute,
		"": 0, "d": 0, "0d": 0, "-1d": 0, "36501d": 0, "99999999999999999999d": 0, "1.5d": 0, "14": 0, "0": 0, "-5h": 0, "2w": 0, "876001h": 0, "14d,15d": 0} {
		got, err := parseMaxAge(text)
		if time.Duration(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v; want %v", text, time.Duration(got), err, want)
		}
	}
}

// aged lists a repository whose metadata were made before testDay by an age, or do not say when, and lists it again when they are older by some time
// and unchanged.
func aged(t *testing.T, query string, old *time.Duration, later time.Duration, rpm bool) (told Listing, first, second error) {
	t.Helper()
	s := &shelf{}
	var made time.Time
	if old != nil {
		made = testDay.Add(-*old)
	}
	open := func() (Origin, *repository) {
		if rpm {
			o, err := parseRPM(&url.URL{Scheme: "rpm+http", Host: "host", RawQuery: query})
			if err != nil {
				t.Fatal(err)
			}
			o.over(repositoryOver(t, s, Options{}))
			return o, o.repository
		}
		o := aptOver(t, s, "suite=stable&"+query, Options{})
		return o, o.repository
	}
	if rpm {
		r := testRPM()
		if r.made = ""; old != nil {
			r.made = fmt.Sprint(made.Unix())
		}
		r.write(t, s)
	} else {
		a := testArchive()
		a.date = made
		a.write(t, s, "stable")
		if old == nil {
			edit(s, "dists/stable/InRelease", "Date: ", "X-Date: ")
			edit(s, "dists/stable/Release", "Date: ", "X-Date: ")
		}
	}
	o, _ := open()
	_, entries, told, first := collect(t, o, Before{})
	if first != nil {
		return told, first, nil
	}
	o, below := open()
	below.now = func() time.Time { return testDay.Add(later) }
	_, _, again, second := collect(t, o, after(entries, told))
	if errors.Is(second, ErrUnchanged) {
		if second = nil; !again.Dated.Equal(told.Dated) {
			t.Errorf("unchanged metadata are of %v, were of %v", again.Dated, told.Dated)
		}
	}
	return told, nil, second
}

// TestFrozenRepository: a server that has stopped following its own origin is noticed by the age of what it gives out, whether that is new to us or not.
func TestFrozenRepository(t *testing.T) {
	of := func(d time.Duration) *time.Duration { return &d }
	for _, rpm := range []bool{false, true} {
		for _, c := range []struct {
			name, query   string
			old           *time.Duration
			later         time.Duration
			first, second string
		}{
			{"any age", "", of(1000 * day), 1000 * day, "", ""},
			{"young", "max-age=14d", of(13 * day), time.Hour, "", ""},
			{"as old as it may be", "max-age=14d", of(14 * day), 0, "", ""},
			{"too old", "max-age=14d", of(15 * day), 0, "15d ago, and max-age=14d", ""},
			{"too old by now", "max-age=36h", of(time.Hour), 49 * time.Hour, "", "2d ago, and max-age=36h0m in the address"},
			{"it does not tell", "max-age=14d", nil, 0, "does not say when it was made", ""},
			{"it does not tell, and may be of any age", "", nil, 0, "", ""},
		} {
			t.Run(fmt.Sprint(c.name, ", rpm ", rpm), func(t *testing.T) {
				told, first, second := aged(t, c.query, c.old, c.later, rpm)
				for i, err := range []error{first, second} {
					refused := (*RefusedError)(nil)
					if want := []string{c.first, c.second}[i]; want == "" && err != nil || want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), want)) {
						t.Errorf("look %d: %v, want %q", i+1, err, want)
					}
				}
				if want := c.old != nil && first == nil; told.Dated.IsZero() == want || want && !told.Dated.Equal(testDay.Add(-*c.old)) {
					t.Errorf("it is told to be of %v", told.Dated)
				}
			})
		}
	}
}

// TestOldestOfSuites: of several suites the oldest tells.
func TestOldestOfSuites(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	want := a.date.AddDate(0, 0, -20)
	a.date = want
	a.write(t, s, "updates")
	for _, query := range []string{"suite=stable,updates", "suite=updates,stable"} {
		_, entries, told, err := collect(t, aptOver(t, s, query, Options{}), Before{})
		if err != nil || !told.Dated.Equal(want) {
			t.Fatalf("%s: of %v, %v; want %v", query, told.Dated, err, want)
		}
		if _, _, told, err = collect(t, aptOver(t, s, query, Options{}), after(entries, told)); !errors.Is(err, ErrUnchanged) || !told.Dated.Equal(want) {
			t.Errorf("%s: of %v, %v; want %v", query, told.Dated, err, want)
		}
		if _, _, _, err = collect(t, aptOver(t, s, query+"&max-age=14d", Options{}), Before{}); err == nil || !strings.Contains(err.Error(), "dists/updates is of") {
			t.Errorf("%s: %v", query, err)
		}
	}
}
