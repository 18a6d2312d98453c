package embedded

import (
	"math/rand/v2"
	"testing"
)

// Whatever comes, goes and is given back: the organisation that has least is the
// next, and of it who came first.
func TestPoolNext(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p pool
	orgs := make([]*org, 9)
	want := map[*org][]*arrival{} // who stands in each line
	for i := range orgs {
		orgs[i] = &org{}
		p.take(orgs[i], 10_000)
	}
	for range 20_000 {
		o := orgs[r.IntN(len(orgs))]
		switch line := want[o]; {
		case r.IntN(2) == 0:
			want[o] = append(line, p.arrive(o, 1+r.IntN(100)))
		case len(line) > 0 && r.IntN(4) == 0:
			i := r.IntN(len(line))
			p.leave(o, line[i])
			want[o] = append(line[:i:i], line[i+1:]...)
		case o.line.held > 0:
			p.give(o, 1+r.IntN(min(o.line.held, 500)))
			if len(p.lines) == 0 {
				continue
			}
			next := p.lines[0]
			for _, other := range orgs {
				if len(want[other]) > 0 && other.line.held < next.line.held {
					t.Fatalf("one that has %d goes before one that has %d", next.line.held, other.line.held)
				}
			}
			got := p.next(p.bytes) // one of them, for then it is more
			if got.first != want[next][0] || got.first != got.last {
				t.Fatal("not who came first, or more than one")
			}
			want[next] = want[next][1:]
		}
	}
	total := 0
	for _, o := range orgs {
		total += o.line.held
	}
	if total != p.bytes {
		t.Errorf("%d bytes, of all organisations %d", p.bytes, total)
	}
}
