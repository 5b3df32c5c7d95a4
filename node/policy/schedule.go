package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxSchedule is how many entries a schedule may have: one for each hour of a week. Nobody writes more by hand.
const maxSchedule = 7 * 24

// weekdays are the names of days in a schedule; the index is that of time.Weekday.
var weekdays = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

const dayMinutes = 24 * 60

// Schedule says at which times other rates hold. Of entries that hold at the same time the last one counts, for each limit by itself.
type Schedule []Period

// Period is one entry of a schedule: on these days, from one time of the day to another, by the clock on the wall. One that ends
// before it begins ends on the day after; so does its day, and the night from Friday to Saturday is Friday's.
type Period struct {
	text     string
	days     [7]bool
	from, to int // minutes since midnight
	limits   Limits
	sets     [2]bool // upload, download
}

// String gives the period as it was written.
func (p Period) String() string { return p.text }

// ParsePeriod reads an entry such as "Mon-Fri 08:00-18:00 upload=5Mbit", "22:00-06:00 upload=none download=none" or "Sat,Sun upload=50Mbit".
// Days that are not said are all, times that are not said the whole day.
func ParsePeriod(text string) (Period, error) {
	p := Period{text: strings.Join(strings.Fields(text), " "), to: dayMinutes}
	bad := func(err error) (Period, error) {
		return Period{}, fmt.Errorf("%q is no entry of a schedule: %w; write it like \"Mon-Fri 08:00-18:00 upload=5Mbit\"", text, err)
	}
	words := strings.Fields(text)
	if len(words) > 0 && !strings.ContainsAny(words[0], ":=") {
		if err := p.setDays(words[0]); err != nil {
			return bad(err)
		}
		words = words[1:]
	} else {
		for i := range p.days {
			p.days[i] = true
		}
	}
	if len(words) > 0 && strings.Contains(words[0], ":") {
		if err := p.setTimes(words[0]); err != nil {
			return bad(err)
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return bad(errors.New("it says no limit"))
	}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		i := 0
		switch {
		case !ok:
			return bad(fmt.Errorf("%q is no limit", w))
		case name == "upload":
		case name == "download":
			i = 1
		default:
			return bad(fmt.Errorf("%q is no rate; upload and download are", name))
		}
		if p.sets[i] {
			return bad(fmt.Errorf("%s is said twice", name))
		}
		if err := p.limits.Set(name, value); err != nil {
			return bad(err)
		}
		p.sets[i] = true
	}
	return p, nil
}

// ParseSchedule reads entries.
func ParseSchedule(texts []string) (Schedule, error) {
	if len(texts) > maxSchedule {
		return nil, fmt.Errorf("a schedule of %d entries: at most %d", len(texts), maxSchedule)
	}
	var s Schedule
	for _, text := range texts {
		p, err := ParsePeriod(text)
		if err != nil {
			return nil, err
		}
		s = append(s, p)
	}
	return s, nil
}

func (p *Period) setDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := weekday(first)
		if err != nil {
			return err
		}
		to := from
		if isRange {
			if to, err = weekday(last); err != nil {
				return err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			p.days[d] = true
			if d == to {
				break
			}
		}
	}
	return nil
}

func weekday(text string) (int, error) {
	for i, name := range weekdays {
		if strings.EqualFold(text, name) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is no day; they are %s", text, strings.Join(weekdays[:], ", "))
}

func (p *Period) setTimes(text string) (err error) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return fmt.Errorf("%q is no stretch of time", text)
	}
	if p.from, err = clockTime(from); err != nil {
		return err
	}
	if p.to, err = clockTime(to); err != nil {
		return err
	}
	if p.from == dayMinutes || p.from == p.to {
		return fmt.Errorf("%q is no stretch of time: the whole day is 00:00-24:00", text)
	}
	return nil
}

// clockTime reads 08:30 as minutes since midnight; 24:00 is the end of the day.
func clockTime(text string) (int, error) {
	h, m, ok := strings.Cut(text, ":")
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	all := int(hour*60 + minute)
	if !ok || err1 != nil || err2 != nil || len(m) != 2 || len(h) > 2 || minute > 59 || all > dayMinutes {
		return 0, fmt.Errorf("%q is no time of the day", text)
	}
	return all, nil
}

// holds reports whether the period holds at now, by its wall clock. What is skipped when clocks go forward does not come that day, what
// is there twice when they go back counts twice.
func (p *Period) holds(now time.Time) bool {
	today := now.Weekday()
	minute := now.Hour()*60 + now.Minute()
	if p.from < p.to {
		return p.days[today] && minute >= p.from && minute < p.to
	}
	yesterday := (today + 6) % 7
	return p.days[today] && minute >= p.from || p.days[yesterday] && minute < p.to
}

// At gives the limits that hold at now, in the time zone of now, and the entries that say so; base is what holds at all other times.
func (s Schedule) At(now time.Time, base Limits) (Limits, []string) {
	var why []string
	for i := range s {
		p := &s[i]
		if !p.holds(now) {
			continue
		}
		if p.sets[0] {
			base.Upload = p.limits.Upload
		}
		if p.sets[1] {
			base.Download = p.limits.Download
		}
		why = append(why, p.text)
	}
	return base, why
}
