package main

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/bench"
)

// Names that our configuration and bench/peers agree on.
const (
	serviceClient = "service"
	username      = "bench"
)

// target is one server in one configuration, with the loads that it can take.
type target struct {
	bench.Subject
	clientID string // public client whose grants are refreshed
	modes    []bench.Mode
	// bearer says that introspection is authorized by an access token of the
	// service client, and not by its secret.
	bearer bool
	// postgres says that grants are kept in a PostgreSQL that shares the server's
	// core, and that the greatest number of clients alone is of interest.
	postgres bool
	// issuers is how many of ours share the database, where it is not one.
	issuers int
}

// ours reports whether the target is Evergrant.
func (t target) ours() bool { return t.Peer == "evergrant" }

// takes reports whether the target has a part in a round.
func (t target) takes(r round, largest int) bool {
	return slices.Contains(t.modes, r.mode) && (!t.postgres || r.clients == largest)
}

// names are what the target is chosen by.
func (t target) names() []string {
	if t.postgres {
		return []string{t.Peer, t.Peer + ":postgres"}
	}
	return []string{t.Peer, t.Peer + ":" + strings.ToLower(t.AccessToken)}
}

// targets lists all there are, in the order of the table.
func targets() []target {
	memory := func(peer, token string) bench.Subject {
		return bench.Subject{Peer: peer, Store: "memory", AccessToken: token}
	}
	durable := func(token string) bench.Subject {
		return bench.Subject{Peer: "evergrant", Store: "SQLite, durable", AccessToken: token}
	}
	shared := func(peer, store string) target {
		return target{
			Subject:  bench.Subject{Peer: peer, Store: store, AccessToken: "opaque"},
			clientID: "opaque", modes: []bench.Mode{bench.Refresh}, postgres: true, issuers: 1,
		}
	}
	two := shared("evergrant", "PostgreSQL, durable, 2 issuers")
	two.issuers = 2
	all := []bench.Mode{bench.Refresh, bench.Introspect, bench.ClientCredentials}
	return []target{
		{Subject: bench.Subject{Peer: "echo", Store: "none", AccessToken: "none"}, clientID: "opaque", modes: []bench.Mode{bench.Echo}},
		{Subject: memory("go-oauth2", "opaque"), clientID: "opaque", modes: []bench.Mode{bench.Refresh, bench.ClientCredentials}},
		// fosite hashes secrets with bcrypt, which would be all that an
		// introspection authorized by one shows.
		{Subject: memory("fosite", "opaque"), clientID: "opaque", modes: all, bearer: true},
		{Subject: durable("opaque"), clientID: "opaque", modes: all},
		{Subject: durable("EdDSA"), clientID: "eddsa", modes: all[:2]},
		{Subject: durable("ES256"), clientID: "es256", modes: all[:2]},
		shared(hydra, "PostgreSQL, durable"),
		shared("evergrant", "PostgreSQL, durable, 1 issuer"),
		two,
	}
}

// choose answers the targets that the names select: a server, or a server and
// its token format or database, such as evergrant:eddsa. No names select all.
func choose(names []string) ([]target, error) {
	if len(names) == 0 {
		return targets(), nil
	}
	var chosen []target
	used := map[string]bool{}
	for _, t := range targets() {
		wanted := false
		for _, name := range t.names() {
			if slices.Contains(names, name) {
				used[name], wanted = true, true
			}
		}
		if wanted {
			chosen = append(chosen, t)
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("-only: no server is called %q; there are echo, go-oauth2, fosite, hydra and evergrant, the last also as evergrant:opaque, evergrant:eddsa, evergrant:es256 and evergrant:postgres", name)
		}
	}
	return chosen, nil
}

// credentials are made anew for each benchmark.
type credentials struct {
	clientSecret string
	password     string
}

// basic is the Authorization header of the service client (RFC 6749, section
// 2.3.1). Neither part has a character that form encoding would change.
func (c credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(serviceClient+":"+c.clientSecret))
}
