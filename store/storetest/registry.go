package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"pgregory.net/rapid"
)

func registryCases() []contract {
	return []contract{
		{"a client is read back with every field", clientIsRead},
		{"a client is replaced as a whole", clientIsReplaced},
		{"a deleted client is ErrNotFound", clientIsDeleted},
		{"a user is read back with every field", userIsRead},
		{"a user is replaced as a whole", userIsReplaced},
		{"a deleted user is ErrNotFound", userIsDeleted},
		{"any client comes back as it was", anyClient},
		{"any user comes back as they were", anyUser},
	}
}

// newClient is a client with no field empty.
func newClient(id string) issuer.Client {
	return issuer.Client{
		ID: id, Name: "A <shop> & \"more\" – ünïcode", Secrets: []secret.Verifier{generated(1), generated(2)},
		RedirectURIs: []string{"https://shop.example/cb?a=b&c=d", "http://127.0.0.1/cb"},
		GrantTypes:   []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
		Scopes:       oauth.Scope{"read", "write"}, Tenant: "acme", Introspect: true, Trusted: true,
		Policy: issuer.Policy{
			AccessTokenLifetime: issuer.Lifetime(90 * time.Minute), CodeLifetime: issuer.Lifetime(30 * time.Second),
			RefreshTokenLifetime: issuer.Lifetime(36 * time.Hour), GrantLifetime: issuer.None,
			Rotation: issuer.RotatePublicClients, RetryWindow: issuer.Lifetime(1500 * time.Millisecond),
			Format: issuer.FormatOpaque, SigningAlg: secret.EdDSA, PKCE: issuer.PKCENever, Redirects: issuer.RedirectPrefix,
		},
		Profile: "bshaffer", Imported: issuer.Origin{Source: "old", Digest: "d1"}, Foreign: "old",
		Declared: true, CreatedAt: start(), UpdatedAt: start().Add(time.Hour + 7*time.Nanosecond),
	}
}

// newUser is a user with no field empty.
func newUser(name string) issuer.User {
	return issuer.User{
		Username: name, Password: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$ZGlnZXN0+/",
		Info: json.RawMessage(`{"id":12345678901234567890,"names":["ä","b"]}`), Imported: issuer.Origin{Source: "old", Digest: "d1"},
		Declared: true, CreatedAt: start(), UpdatedAt: start().Add(time.Hour),
	}
}

func (f *fixture) client(id string) issuer.Client {
	f.Helper()
	c, err := f.Client(f.Context(), id)
	f.ok(err)
	return c
}

func (f *fixture) user(name string) issuer.User {
	f.Helper()
	u, err := f.User(f.Context(), name)
	f.ok(err)
	return u
}

// saved is an event of the registry.
func saved(kind string) issuer.Event {
	return issuer.Event{At: start(), Type: kind, ClientID: "shop", Actor: "operator", Cause: "test"}
}

func clientIsRead(f *fixture) {
	_, err := f.Client(f.Context(), "shop")
	f.is(err, issuer.ErrNotFound)
	want, e := newClient("shop"), saved(issuer.EventClientSaved)
	f.ok(f.PutClient(f.Context(), want, e))
	f.equal(f.client("shop"), want)
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{e})
	for _, other := range []string{"", "SHOP", "shop ", "sho"} {
		_, err := f.Client(f.Context(), other)
		f.is(err, issuer.ErrNotFound)
	}
}

func clientIsReplaced(f *fixture) {
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	want := issuer.Client{ID: "shop", GrantTypes: []string{oauth.GrantPassword}}
	f.ok(f.PutClient(f.Context(), want, saved(issuer.EventClientSaved)))
	f.equal(f.client("shop"), want)
	f.equal(len(f.events(issuer.EventFilter{})), 2)
}

func clientIsDeleted(f *fixture) {
	f.ok(f.PutClient(f.Context(), newClient("shop"), saved(issuer.EventClientSaved)))
	f.ok(f.PutClient(f.Context(), newClient("other"), saved(issuer.EventClientSaved)))
	f.ok(f.DeleteClient(f.Context(), "shop", saved(issuer.EventClientDeleted)))
	_, err := f.Client(f.Context(), "shop")
	f.is(err, issuer.ErrNotFound)
	f.is(f.DeleteClient(f.Context(), "shop", saved(issuer.EventClientDeleted)), issuer.ErrNotFound)
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventClientDeleted}), []issuer.Event{saved(issuer.EventClientDeleted)})
	f.equal(f.client("other"), newClient("other"))
}

func userIsRead(f *fixture) {
	_, err := f.User(f.Context(), "alice")
	f.is(err, issuer.ErrNotFound)
	want, e := newUser("älice@example.com"), saved(issuer.EventUserSaved)
	f.ok(f.PutUser(f.Context(), want, e))
	f.equal(f.user("älice@example.com"), want)
	f.equal(f.events(issuer.EventFilter{}), []issuer.Event{e})
	_, err = f.User(f.Context(), "ÄLICE@example.com")
	f.is(err, issuer.ErrNotFound)
}

func userIsReplaced(f *fixture) {
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	want := issuer.User{Username: "alice", Password: generated(3)}
	f.ok(f.PutUser(f.Context(), want, saved(issuer.EventUserSaved)))
	f.equal(f.user("alice"), want)
	f.equal(len(f.events(issuer.EventFilter{})), 2)
}

func userIsDeleted(f *fixture) {
	f.ok(f.PutUser(f.Context(), newUser("alice"), saved(issuer.EventUserSaved)))
	f.ok(f.DeleteUser(f.Context(), "alice", saved(issuer.EventUserDeleted)))
	_, err := f.User(f.Context(), "alice")
	f.is(err, issuer.ErrNotFound)
	f.is(f.DeleteUser(f.Context(), "alice", saved(issuer.EventUserDeleted)), issuer.ErrNotFound)
	f.equal(f.events(issuer.EventFilter{Type: issuer.EventUserDeleted}), []issuer.Event{saved(issuer.EventUserDeleted)})
}

func anyClient(f *fixture) {
	rapid.Check(f.T, func(t *rapid.T) {
		text := rapid.String()
		texts := rapid.SliceOfN(text, 1, 4)
		lifetime := rapid.Custom(func(t *rapid.T) issuer.Lifetime {
			n := rapid.Int64Range(-1, int64(3650*day/time.Millisecond)).Draw(t, "milliseconds")
			if n < 0 {
				return issuer.None
			}
			return issuer.Lifetime(time.Duration(n) * time.Millisecond)
		})
		want := issuer.Client{
			ID: anyName(40).Draw(t, "id"), Name: text.Draw(t, "name"),
			RedirectURIs: texts.Draw(t, "uris"), GrantTypes: texts.Draw(t, "grant types"), Scopes: texts.Draw(t, "scopes"),
			Introspect: rapid.Bool().Draw(t, "introspect"), Trusted: rapid.Bool().Draw(t, "trusted"), Declared: rapid.Bool().Draw(t, "declared"),
			Policy: issuer.Policy{
				AccessTokenLifetime: lifetime.Draw(t, "access"), CodeLifetime: lifetime.Draw(t, "code"),
				RefreshTokenLifetime: lifetime.Draw(t, "refresh"), GrantLifetime: lifetime.Draw(t, "grant"), RetryWindow: lifetime.Draw(t, "window"),
				Rotation: issuer.RotationPolicy(text.Draw(t, "rotation")), Format: issuer.TokenFormat(text.Draw(t, "format")),
				SigningAlg: secret.Algorithm(text.Draw(t, "alg")), PKCE: issuer.PKCEPolicy(text.Draw(t, "pkce")),
				Redirects: issuer.RedirectMatching(text.Draw(t, "redirects")),
			},
			Tenant: text.Draw(t, "tenant"), Profile: text.Draw(t, "profile"), Foreign: text.Draw(t, "foreign"), Imported: anyOrigin(t),
			CreatedAt: anyTime(t), UpdatedAt: anyTime(t),
		}
		for _, verifier := range texts.Draw(t, "secrets") {
			want.Secrets = append(want.Secrets, secret.Verifier(verifier))
		}
		f.ok(f.PutClient(f.Context(), want, saved(issuer.EventClientSaved)))
		got, err := f.Client(f.Context(), want.ID)
		// %#v would print verifiers as redacted; the documents say all.
		if err != nil || fmt.Sprintf("%q", everything(got)) != fmt.Sprintf("%q", everything(want)) {
			t.Fatalf("got  %+v (%v), want %+v", got, err, want)
		}
	})
}

// everything is a client as a list of texts.
func everything(c issuer.Client) []string {
	all := []string{
		c.ID, c.Name, fmt.Sprint(c.RedirectURIs, c.GrantTypes, c.Scopes, c.Introspect, c.Trusted, c.Declared),
		fmt.Sprintf("%#v", c.Policy), c.Tenant, c.Profile, c.Foreign, fmt.Sprintf("%#v", c.Imported), c.CreatedAt.String(), c.UpdatedAt.String(),
	}
	for _, verifier := range c.Secrets {
		all = append(all, string(verifier))
	}
	return all
}

func anyUser(f *fixture) {
	rapid.Check(f.T, func(t *rapid.T) {
		want := issuer.User{
			Username: anyName(60).Draw(t, "name"), Password: secret.Verifier(rapid.String().Draw(t, "password")),
			Declared: rapid.Bool().Draw(t, "declared"), CreatedAt: anyTime(t), UpdatedAt: anyTime(t), Imported: anyOrigin(t),
		}
		if info := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(t, "info"); len(info) > 0 {
			want.Info, _ = json.Marshal(info)
		}
		f.ok(f.PutUser(f.Context(), want, saved(issuer.EventUserSaved)))
		if got, err := f.User(f.Context(), want.Username); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v (%v), want %+v", got, err, want)
		}
	})
}

// anyName is an id of a client or a user name. The issuer takes none with a NUL,
// which not every database can hold.
func anyName(runes int) *rapid.Generator[string] {
	return rapid.StringN(1, runes, 255).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
}

// anyOrigin is an origin, or none.
func anyOrigin(t *rapid.T) issuer.Origin {
	return issuer.Origin{Source: rapid.String().Draw(t, "source"), Digest: rapid.String().Draw(t, "digest")}
}

// anyTime is a time in UTC, or none.
func anyTime(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "no time") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(1, 1<<37).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
}
