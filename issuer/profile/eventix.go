package profile

import (
	"net/http"

	"github.com/evergrant/evergrant/issuer"
)

// EventixOptions are those of an API like Eventix's, whose configuration nobody
// outside has seen. Its lifetimes are set as those of any policy.
type EventixOptions struct {
	// Unsafe is what is had as it was: public_clients_without_pkce.
	Unsafe []issuer.Compatibility `json:"unsafe_compatibility,omitempty"`
}

// Eventix is the profile of an API like Eventix's, OpenTicket's or Weeztix's. Its
// answers have the resource owner's info. How it refuses is not documented, and is
// the standard's.
func Eventix(o EventixOptions) *issuer.Profile {
	return &issuer.Profile{
		Name: NameEventix, TokenPath: "/tokens", AuthorizePath: "/tokens/authorize",
		Policy: issuer.Policy{
			AccessTokenLifetime:  lifetime(3 * 24 * 3600),
			RefreshTokenLifetime: lifetime(365 * 24 * 3600),
			Rotation:             issuer.RotateAlways,
			Format:               issuer.FormatOpaque,
			PKCE:                 pkce(o.Unsafe),
		},
		JSONRequests: true, BasicWins: true,
		IgnoreScope: true, RefreshTokenAlways: true,

		Fields:    []string{"token_type", "expires_in", "access_token", "refresh_token", "refresh_token_expires_in", "info"},
		RoundDown: true,

		RedirectFields: []string{"code", "state"},
		ErrorFields:    []string{"error", "error_description", "state"},
		RedirectStatus: http.StatusFound,
	}
}
