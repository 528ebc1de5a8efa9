package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// profileName is the profile of clients that name none, as issuer.Config has it.
func (c *config) profileName() string {
	if c.Issuer.Profile == standardProfile {
		return ""
	}
	return c.Issuer.Profile
}

// profileOf is the name of the profile that holds for a client.
func (c *config) profileOf(client issuer.Client) string {
	return orText(client.Profile, c.Issuer.Profile)
}

// profiles are all that there are, so that each client may have its own; the
// standard, too, for a client that leaves the profile of the server. They are
// made once, when the file has been read.
func (c *config) profiles() map[string]*issuer.Profile {
	if c.made == nil {
		c.made = profile.All(c.options())
		c.made[standardProfile] = &issuer.Profile{}
	}
	return c.made
}

// options are what the profiles are made of.
func (c *config) options() profile.Options {
	o := c.Issuer.Legacy
	o.Unsafe = c.Issuer.Unsafe
	return o
}

// policyOf is the policy that will hold for a client, or for those that set
// nothing.
func (c *config) policyOf(client issuer.Client) issuer.Policy {
	return issuer.Config{Policy: c.Issuer.Policy, Profiles: c.profiles(), Profile: c.Issuer.Profile}.PolicyOf(client)
}

// settle puts what was said in the words of other servers in the place of our
// own: policies of clients, and scopes.
func (c *config) settle() {
	for _, scope := range c.Issuer.Legacy.FOS.SupportedScopes {
		if c.Issuer.Scopes == nil {
			c.Issuer.Scopes = map[string]string{}
		}
		if _, described := c.Issuer.Scopes[scope]; !described {
			c.Issuer.Scopes[scope] = scope
		}
	}
	for i := range c.Issuer.Clients {
		client := &c.Issuer.Clients[i]
		if len(client.legacy) == 0 {
			continue
		}
		made := profile.All(c.optionsOf(*client))[c.profileOf(client.Client)].Policy.Over(issuer.DefaultPolicy())
		for _, value := range client.legacy {
			switch value.key.ours {
			case "access_token_lifetime":
				client.AccessTokenLifetime = made.AccessTokenLifetime
			case "refresh_token_lifetime":
				client.RefreshTokenLifetime = made.RefreshTokenLifetime
			case "authorization_code_lifetime":
				client.CodeLifetime = made.CodeLifetime
			case "refresh_token_rotation":
				client.Rotation = made.Rotation
			case "require_pkce":
				client.PKCE = made.PKCE
			case "redirect_matching":
				client.Redirects = made.Redirects
			}
		}
	}
}

// optionsOf are the server's options with what a client says instead.
func (c *config) optionsOf(client declaredClient) profile.Options {
	o := c.options()
	for _, value := range client.legacy {
		value.change(&o)
	}
	return o
}

// checkProfiles refuses two keys for one thing, and what is not safe and was not
// asked for by its name, and warns of what was.
func (c *config) checkProfiles(bad func(path, text string)) {
	c.checkTwice("issuer", c.Issuer.Profile, bad)
	c.checkUnsafe("issuer", c.Issuer.Policy, c.options(), true, bad)
	for _, client := range c.Issuer.Clients {
		named := c.profileOf(client.Client)
		c.checkTwice(client.path, named, bad)
		_, confidential := c.places[client.path+".secret"]
		c.checkUnsafe(client.path, client.Policy, c.optionsOf(client), !confidential, bad)
		if client.Allows(oauth.GrantImplicit) {
			c.checkImplicit(client, named, bad)
		}
	}
	for i, name := range c.Issuer.Unsafe {
		c.warn(c.placeOf(fmt.Sprintf("issuer.unsafe_compatibility[%d]", i)), "%s is on, although it is not safe: %s", name, issuer.Compatibilities()[name])
	}
}

// checkTwice refuses a key of another server beside our own for the same thing.
func (c *config) checkTwice(path, named string, bad func(path, text string)) {
	for _, key := range legacyKeys(named) {
		_, theirs := c.places[path+"."+key.name]
		place, ours := c.places[path+"."+key.ours]
		if theirs && ours && key.ours != key.name {
			bad(path+"."+key.name, key.name+" says the same as "+key.ours+" at "+place+"; keep one")
		}
	}
}

// checkUnsafe refuses what was set at a path and is not safe, unless the operator
// named it. A client with a secret needs no PKCE.
func (c *config) checkUnsafe(path string, policy issuer.Policy, o profile.Options, public bool, bad func(path, text string)) {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	additive := is(o.Bshaffer.AlwaysIssueNewRefreshToken, true) && is(o.Bshaffer.UnsetRefreshTokenAfterUse, false)
	told := map[issuer.Compatibility]bool{}
	for _, ask := range []struct {
		key   string
		asked bool
		needs issuer.Compatibility
		mend  string
	}{
		{"refresh_token_rotation", policy.Rotation == issuer.RotateAdditive, issuer.UnsafeAdditive, "write always"},
		{"require_pkce", policy.PKCE == issuer.PKCENever, issuer.UnsafePublicWithoutPKCE, "write public_clients"},
		{"redirect_matching", policy.Redirects == issuer.RedirectPrefix, issuer.UnsafeRedirectPrefix, "write exact"},
		{"unset_refresh_token_after_use", additive, issuer.UnsafeAdditive, "write true"},
		{"always_issue_new_refresh_token", additive, issuer.UnsafeAdditive, "write false"},
		{"enforce_pkce", !o.Bshaffer.EnforcePKCE && public, issuer.UnsafePublicWithoutPKCE, "delete the key: then only public clients need PKCE"},
		{"require_exact_redirect_uri", is(o.Bshaffer.RequireExactRedirectURI, false), issuer.UnsafeRedirectPrefix, "write true"},
		{"allow_implicit", o.Bshaffer.AllowImplicit, issuer.UnsafeImplicit, "write false"},
	} {
		_, set := c.places[path+"."+ask.key]
		if set && ask.asked && !told[ask.needs] && !slices.Contains(c.Issuer.Unsafe, ask.needs) {
			told[ask.needs] = true
			bad(path+"."+ask.key, unsafeText(ask.key+" as it is", ask.needs, ask.mend))
		}
	}
}

// unsafeText says what something needs and why, and what to do instead.
func unsafeText(what string, needs issuer.Compatibility, instead string) string {
	return fmt.Sprintf("%s is not safe: %s; %s, or name it under issuer: unsafe_compatibility: [%s]", what, issuer.Compatibilities()[needs], instead, needs)
}

// checkImplicit refuses a client with the implicit grant where there is none.
func (c *config) checkImplicit(client declaredClient, named string, bad func(path, text string)) {
	path := client.path + ".grant_types"
	switch {
	case !slices.Contains(c.Issuer.Unsafe, issuer.UnsafeImplicit):
		bad(path, unsafeText("the grant type implicit", issuer.UnsafeImplicit, "delete it"))
	case !c.profiles()[named].Implicit:
		bad(path, "the grant type implicit is not in the profile "+named+" as it is set here; delete it, or give the client a profile that has it")
	}
}

// ownPaths are those of a profile beside the standard ones.
func ownPaths(p *issuer.Profile) string {
	var paths []string
	for _, path := range []string{p.TokenPath, p.AuthorizePath, p.RevokePath} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return strings.Join(paths, " ")
}

// profileLines are the profiles in use, that of the server first, each with its
// own paths and the declared clients that name it.
func (c *config) profileLines() []string {
	profiles, clients := c.profiles(), map[string][]string{}
	for _, client := range c.Issuer.Clients {
		if client.Profile != "" && client.Profile != c.Issuer.Profile {
			clients[client.Profile] = append(clients[client.Profile], client.ID)
		}
	}
	line := func(name string) string {
		if paths := ownPaths(profiles[name]); paths != "" {
			return name + ", at " + paths + " as well"
		}
		return name
	}
	lines := []string{line(c.Issuer.Profile)}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		ids := clients[name]
		lines = append(lines, line(name)+", for "+counted(len(ids), func(i int) string { return ids[i] })+" of the clients")
	}
	return lines
}
