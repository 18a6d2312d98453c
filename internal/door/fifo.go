package door

// A fifo is a doubly linked list whose links stand in its elements, so that
// waiting costs no memory and leaving no search.
type fifo[T any] struct {
	front, back *T
	n           int
}

// A node is an element of lists of T.
type node[T any] interface {
	*T
	links(which int) (before, after **T)
}

func push[T any, P node[T]](f *fifo[T], which int, e P) {
	before, after := e.links(which)
	*before, *after = f.back, nil
	if f.back == nil {
		f.front = e
	} else {
		_, last := P(f.back).links(which)
		*last = e
	}
	f.back = e
	f.n++
}

func remove[T any, P node[T]](f *fifo[T], which int, e P) {
	before, after := e.links(which)
	if *before == nil {
		f.front = *after
	} else {
		_, next := P(*before).links(which)
		*next = *after
	}
	if *after == nil {
		f.back = *before
	} else {
		prev, _ := P(*after).links(which)
		*prev = *before
	}
	*before, *after = nil, nil
	f.n--
}
