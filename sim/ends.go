package sim

// ends is a 4-ary heap of flows by the time at which they end. A flow knows its index, so that a new rate moves it
// instead of leaving a void event behind.
type ends []*flow

func (f *flow) before(o *flow) bool {
	return f.end < o.end || f.end == o.end && f.seq < o.seq
}

// put brings f to its place after its end was set, whether it was there before or not.
func (e *ends) put(f *flow) {
	if f.heap == 0 {
		*e = append(*e, f)
		f.heap = int32(len(*e))
	}
	e.up(int(f.heap) - 1)
	e.down(int(f.heap) - 1)
}

func (e *ends) remove(f *flow) {
	if f.heap == 0 {
		return
	}
	i, last := int(f.heap)-1, len(*e)-1
	f.heap = 0
	moved := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	if i == last {
		return
	}
	(*e)[i] = moved
	moved.heap = int32(i + 1)
	e.up(i)
	e.down(int(moved.heap) - 1)
}

func (e ends) up(i int) {
	for f := e[i]; i > 0; {
		above := (i - 1) / 4
		if !f.before(e[above]) {
			return
		}
		e.swap(i, above)
		i = above
	}
}

func (e ends) down(i int) {
	for {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < len(e); c++ {
			if e[c].before(e[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		e.swap(i, least)
		i = least
	}
}

func (e ends) swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].heap, e[j].heap = int32(i+1), int32(j+1)
}
