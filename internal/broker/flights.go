package broker

// flights are the QoS 1 and 2 messages that a client has been sent and has not
// acknowledged, by packet identifier. Identifiers are given one after the other,
// so a table of twice as many places as there are messages finds each in its own
// place, or next to it.
type flights struct {
	places []flight // a power of two of them
	n      int
}

type flight struct {
	id uint16 // 0: none
	outgoing
}

// leastPlaces is what a table begins with.
const leastPlaces = 8

func (f *flights) len() int { return f.n }

// find returns where id is, or a place that is not its.
func (f *flights) find(id uint16) int {
	mask := len(f.places) - 1
	at := int(id) & mask
	for f.places[at].id != id && f.places[at].id != 0 {
		at = (at + 1) & mask
	}
	return at
}

// behind returns how far behind its own place the message at a place is.
func (f *flights) behind(at int) int {
	mask := len(f.places) - 1
	return (at - int(f.places[at].id)) & mask
}

func (f *flights) get(id uint16) (outgoing, bool) {
	if f.n == 0 || id == 0 {
		return outgoing{}, false
	}
	p := &f.places[f.find(id)]
	return p.outgoing, p.id != 0
}

// put adds a message, or replaces the one of that identifier, which is not 0.
func (f *flights) put(id uint16, m outgoing) {
	if f.n > 0 {
		if p := &f.places[f.find(id)]; p.id == id {
			p.outgoing = m
			return
		}
	}
	if 2*f.n >= len(f.places) {
		f.resize(max(leastPlaces, 2*len(f.places)))
	}
	f.add(flight{id, m})
	f.n++
}

// add puts a new message in its place, or behind it: before those that are less far
// behind theirs, so that remove need not look beyond one that is in its own.
func (f *flights) add(x flight) {
	mask := len(f.places) - 1
	at := int(x.id) & mask
	for far := 0; f.places[at].id != 0; far++ {
		if other := f.behind(at); other < far {
			x, f.places[at] = f.places[at], x
			far = other
		}
		at = (at + 1) & mask
	}
	f.places[at] = x
}

// remove removes a message, if it is there. What stands behind it and not in its own
// place moves up.
func (f *flights) remove(id uint16) {
	if f.n == 0 || id == 0 {
		return
	}
	at := f.find(id)
	if f.places[at].id == 0 {
		return
	}
	f.n--
	mask := len(f.places) - 1
	for next := (at + 1) & mask; f.places[next].id != 0 && f.behind(next) > 0; next = (at + 1) & mask {
		f.places[at] = f.places[next]
		at = next
	}
	f.places[at] = flight{}
	if f.n == 0 && len(f.places) > 16*leastPlaces {
		f.places = nil // whoever was slow once need not stay large
	}
}

func (f *flights) resize(n int) {
	old := f.places
	f.places = make([]flight, n)
	for i := range old {
		if old[i].id != 0 {
			f.add(old[i])
		}
	}
}
