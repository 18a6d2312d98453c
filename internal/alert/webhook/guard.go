package webhook

import (
	"net/netip"
	"net/url"
	"syscall"

	"github.com/keepmq/keepmq/internal/errs"
)

// A Guard says which addresses may be connected to. The zero Guard lets nothing
// but public addresses through.
type Guard struct {
	Allowed []netip.Prefix // let through whatever they are
}

// special are the ranges of the public address space that are not the
// internet's: within them a request would reach this machine, its network or,
// through a translator (6to4, Teredo), either of them.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

// global is what IPv6 is handed out of. Everything else, such as addresses that
// carry an IPv4 address within them, is refused.
var global = netip.MustParsePrefix("2000::/3")

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(all))
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Check refuses an address that is not on the internet, or allowed.
func (g Guard) Check(a netip.Addr) error {
	refused := errs.E(errs.Denied, "the address is not one of the public internet")
	if !a.IsValid() || a.Zone() != "" {
		return refused
	}
	a = a.Unmap()
	for _, p := range g.Allowed {
		if p.Contains(a) {
			return nil
		}
	}
	if a.Is6() && !global.Contains(a) {
		return refused
	}
	for _, p := range special {
		if p.Contains(a) {
			return refused
		}
	}
	return nil
}

// control is asked about every address right before it is connected to, after
// all names were resolved: a name that has another address by now does not help.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errs.E(errs.Denied, "the address cannot be read")
	}
	return g.Check(ap.Addr())
}

// maxURL bounds the address of a receiver.
const maxURL = 1000

// CheckURL checks the address of a receiver, as far as it can be without asking
// for its name.
func (g Guard) CheckURL(s string) error {
	if s == "" || len(s) > maxURL {
		return errs.E(errs.Invalid, "url must have 1 to %d bytes, has %d", maxURL, len(s))
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return errs.E(errs.Invalid, "url must be printable ASCII without spaces")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return errs.E(errs.Invalid, "url must be as https://host/path")
	case u.Scheme != "https":
		return errs.E(errs.Invalid, "url must begin with https://")
	case u.User != nil:
		return errs.E(errs.Invalid, "url must not have a user or password in it; check the signature instead")
	case u.Fragment != "":
		return errs.E(errs.Invalid, "url must not have a fragment (#)")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && g.Check(a) != nil {
		return errs.E(errs.Invalid, "url must name a host on the public internet, or one that the server's operator allows (alerts.webhook_allow)")
	}
	return nil
}
