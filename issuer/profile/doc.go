// Package profile has the wire behaviour of known authorization servers, as
// profiles of package issuer: FOSOAuthServerBundle, bshaffer/oauth2-server-php and
// an API like Eventix's. Each is made of that server's own configuration keys,
// with their names and defaults.
//
// What clients see is the same to the byte: paths, methods, the order of checks
// and of members, texts and statuses of errors. What was not safe there is not had
// here, unless the list of unsafe compatibilities names it; docs/DIVERGENCES.md
// says what differs.
package profile

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// The names of the profiles, as the configuration has them.
const (
	NameFOS      = "fos"
	NameBshaffer = "bshaffer"
	NameEventix  = "eventix"
)

// Options are those of all profiles. The zero value has every default. The JSON
// names are the keys of a configuration file.
type Options struct {
	FOS      FOSOptions      `json:"fos,omitzero"`
	Bshaffer BshafferOptions `json:"bshaffer,omitzero"`
	Eventix  EventixOptions  `json:"eventix,omitzero"`
	// Unsafe holds for all profiles, beside their own.
	Unsafe []issuer.Compatibility `json:"unsafe_compatibility,omitempty"`
}

// Names are the names of all profiles, in alphabetical order.
func Names() []string { return []string{NameBshaffer, NameEventix, NameFOS} }

// All makes every profile, by name: for [issuer.Config.Profiles]. The options
// must have passed Check.
func All(o Options) map[string]*issuer.Profile {
	o = o.spread()
	return map[string]*issuer.Profile{
		NameFOS:      FOS(o.FOS),
		NameBshaffer: Bshaffer(o.Bshaffer),
		NameEventix:  Eventix(o.Eventix),
	}
}

// Check says what is wrong with the options, or nil. The texts name the keys.
func (o Options) Check() error { return cmp.Or(o.FOS.Check(), o.Bshaffer.Check()) }

// Warnings are sentences about settings that are not had here as they were, by
// the name of the profile: for the operator, where clients have it.
func (o Options) Warnings() map[string][]string {
	return map[string][]string{NameBshaffer: o.spread().Bshaffer.Warnings()}
}

// spread gives each profile the list that holds for all.
func (o Options) spread() Options {
	for _, list := range []*[]issuer.Compatibility{&o.FOS.Unsafe, &o.Bshaffer.Unsafe, &o.Eventix.Unsafe} {
		*list = slices.Concat(*list, o.Unsafe)
	}
	return o
}

// pkce is who must use it: public clients, unless it is named.
func pkce(unsafe []issuer.Compatibility) issuer.PKCEPolicy {
	if slices.Contains(unsafe, issuer.UnsafePublicWithoutPKCE) {
		return issuer.PKCENever
	}
	return issuer.PKCEPublicClients
}

// table collects what clients are told of causes.
type table map[issuer.Cause]oauth.Error

// tell sets what is told of some causes, with status 400.
func (t table) tell(code, description string, causes ...issuer.Cause) {
	for _, cause := range causes {
		t[cause] = oauth.Error{Code: code, Description: description, Status: http.StatusBadRequest}
	}
}

// change sets another status, or a link, of what is told of a cause.
func (t table) change(cause issuer.Cause, status int, uri string) {
	told := t[cause]
	told.Status, told.URI = status, uri
	t[cause] = told
}

// within are the tokens of a scope that another one has too, nil for none.
func within(scope, allowed oauth.Scope) oauth.Scope {
	return slices.DeleteFunc(slices.Clone(scope), func(token string) bool { return !slices.Contains(allowed, token) })
}

// lifetime is a number of seconds.
func lifetime(seconds int64) issuer.Lifetime {
	return issuer.Lifetime(time.Duration(seconds) * time.Second)
}

// maxLifetime bounds lifetimes, in seconds: a hundred years.
const maxLifetime = 100 * 365 * 24 * 3600

// checkLifetime refuses what is no number of seconds.
func checkLifetime(key string, seconds, least, most int64) error {
	if seconds < least || seconds > most {
		return fmt.Errorf("%s must be from %d to %d seconds", key, least, most)
	}
	return nil
}

// or is what is given, or the default.
func or[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}

// The longest life of a code, in seconds (RFC 6749 section 4.1.2).
const maxCodeLifetime = 600
