package config

import "net/netip"

// SignIn configures how people sign in.
type SignIn struct {
	// ProviderAllow are ranges (CIDR) of addresses outside the public internet that
	// OpenID Connect providers may be at. Every organisation may then have requests
	// sent into them.
	ProviderAllow []string `yaml:"provider_allow"`
	// ProviderCA is a PEM file with the authorities that are trusted for providers,
	// instead of the system's.
	ProviderCA string `yaml:"provider_ca"`
}

// validate reports every mistake in s to fail.
func (s SignIn) validate(fail func(format string, args ...any)) {
	for _, r := range s.ProviderAllow {
		if _, err := netip.ParsePrefix(r); err != nil {
			fail("sign_in.provider_allow: %q is not a range as 10.1.0.0/16", r)
		}
	}
}
