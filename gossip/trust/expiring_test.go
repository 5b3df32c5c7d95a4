package trust

import (
	"slices"
	"testing"
	"time"
)

// TestExpiring: a mirror hears of what the publisher does not renew when less than a third of its life is left, also after a
// restart; what is renewed is forgotten.
func TestExpiring(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{Timestamp: 30 * day, Others: 90 * day})
	p.sign(start, 1, "one")
	r := p.joined(start)
	roles := func(at time.Time) (list []string) {
		for _, e := range r.Expiring(at) {
			list = append(list, e.Role)
		}
		slices.Sort(list)
		return list
	}
	for _, c := range []struct {
		days int
		want []string
	}{
		{0, nil}, {19, nil}, {21, []string{roleTimestamp}}, {59, []string{roleTimestamp}},
		{61, []string{roleRelease, roleRoot, roleSnapshot, roleTargets, roleTimestamp}},
	} {
		if got := roles(start.Add(time.Duration(c.days) * day)); !slices.Equal(got, c.want) {
			t.Errorf("day %d: %v, want %v", c.days, got, c.want)
		}
		r = reopened(t, r)
	}
	if checked, bad, err := r.Scrub(); bad != 0 || err != nil {
		t.Errorf("scrub: %d of %d bad, %v", bad, checked, err)
	}
	renewed := p.sign(start.Add(61*day), 2, "two")
	if _, err := r.Verify(start.Add(61*day), renewed); err != nil {
		t.Fatal(err)
	}
	if got := roles(start.Add(61 * day)); len(got) != 0 {
		t.Errorf("after the renewal: %v", got)
	}
}
