package policy

import (
	"slices"
	"time"
)

const (
	// monthForm is how a calendar month is written.
	monthForm = "2006-01"
	// maxMonths is how many months are remembered: a year, and one that a wrong clock made.
	maxMonths = 13
)

// Month counts what moved in a calendar month.
type Month struct {
	Name     string `json:"month"` // 2026-11
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
}

// Months are the last months, the one that was counted in last at the end. Each month has a counter of its own, so that a clock
// that is wrong for a while, such as that of a machine which has just started, takes nothing away from the month that it is.
type Months []Month

// At gives the month of a time, by its time zone, to be counted in.
func (m *Months) At(now time.Time) *Month {
	name := now.Format(monthForm)
	list := *m
	month := Month{Name: name}
	if i := slices.IndexFunc(list, func(o Month) bool { return o.Name == name }); i >= 0 {
		if i == len(list)-1 {
			return &list[i]
		}
		month = list[i]
		list = slices.Delete(list, i, i+1)
	}
	list = append(list, month)
	*m = list[max(0, len(list)-maxMonths):]
	return &(*m)[len(*m)-1]
}

// MonthEnds is when the next calendar month begins.
func MonthEnds(now time.Time) time.Time {
	year, month, _ := now.Date()
	return time.Date(year, month+1, 1, 0, 0, 0, 0, now.Location())
}
