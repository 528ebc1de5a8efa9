package foreign

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// doorkeeper are its tables, with devise's users. A refresh token stands in the
// row of its access token, and lives until that row is revoked.
func doorkeeper() kind {
	return kind{name: "doorkeeper", plan: doorkeeperPlan, roles: []role{
		{name: "client", table: "oauth_applications", columns: []string{"id", "uid", "secret", "redirect_uri"}},
		{name: "access_token", table: "oauth_access_tokens", columns: []string{"token", "application_id", "resource_owner_id", "created_at", "revoked_at", "expires_in", "scopes"}},
		{name: "user", table: "users", columns: []string{"id", "encrypted_password"}, optional: true},
	}}
}

func doorkeeperPlan(f found, s *Source) plan {
	c, u, t := f.view(s, "client", "t"), f.view(s, "user", "t"), f.view(s, "access_token", "t")
	p := plan{
		clients: query[evergrant.ImportClient]{
			base: c.from(),
			fields: []field{
				{"uid", c.get("uid")}, {"secret", c.get("secret")}, {"name", c.get("name")}, {"uris", c.get("redirect_uri")}, {"scopes", c.get("scopes")},
				{"confidential", c.get("confidential")},
			},
			read: func(r row) (evergrant.ImportClient, error) { return doorkeeperClient(r, s.options.HexTokens) },
		},
		users: query[evergrant.ImportUser]{
			base:   u.from(),
			fields: []field{{"user_id", u.get("id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"password", u.get("encrypted_password")}},
			read: func(r row) (evergrant.ImportUser, error) {
				if r.text("password") == "" {
					return evergrant.ImportUser{}, userError(subject(r), errNoPassword)
				}
				v, err := password(r.text("password"))
				if err != nil {
					return evergrant.ImportUser{}, userError(subject(r), err)
				}
				return evergrant.ImportUser{Username: subject(r), Password: v}, nil
			},
		},
	}
	if !t.there() {
		return p
	}
	p.tokens = []query[evergrant.ImportToken]{doorkeeperTokens(f, s, "token")}
	if _, ok := t.column("refresh_token"); ok {
		p.tokens = []query[evergrant.ImportToken]{doorkeeperTokens(f, s, "refresh_token"), p.tokens[0]}
	}
	p.check = func(ctx context.Context) error { return s.checkDigests(ctx, t) }
	return p
}

var (
	errNoPassword = errors.New("the user has no password in the other server")
	errNoSecret   = errors.New("it is confidential and has no secret")

	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// checkDigests refuses to read digests as if they were tokens. Whether they are
// the newest rows tell: what is older may be clear, from before.
func (s *Source) checkDigests(ctx context.Context, t view) error {
	q := query[bool]{
		base: t.from(), where: t.get("revoked_at") + " IS NULL", tail: " ORDER BY " + t.get("created_at") + " DESC LIMIT 20",
		fields: []field{{"token", t.get("token")}},
		read: func(r row) (bool, error) {
			text := r.text("token")
			return sha256Hex.MatchString(text) && !s.options.HexTokens || strings.HasPrefix(text, "$2"), nil
		},
	}
	digests := false
	err := stream(ctx, s, q, func(digest bool, _ error) bool {
		digests = digests || digest
		return true
	})
	if digests {
		return errors.New("the tokens are 64 hexadecimal digits or bcrypt: where that is hash_token_secrets, they cannot be moved, since no token can be had from its digest, and --table access_token= leaves them out; where it is default_generator_method :hex, say so with --hex-tokens")
	}
	return err
}

func doorkeeperClient(r row, hexClear bool) (evergrant.ImportClient, error) {
	c := evergrant.ImportClient{
		ID: r.text("uid"), Name: r.text("name"), RedirectURIs: strings.Fields(r.text("uris")), Scope: spaced(r.text("scopes")),
	}
	if len(c.RedirectURIs) > 0 {
		c.GrantTypes = []string{oauth.GrantAuthorizationCode}
	}
	c.GrantTypes = append(c.GrantTypes, oauth.GrantRefreshToken)
	if !r.null("confidential") && !r.yes("confidential") {
		return c, nil
	}
	c.GrantTypes = append(c.GrantTypes, oauth.GrantClientCredentials)
	text := r.text("secret")
	if text == "" {
		return c, clientError(c.ID, errNoSecret)
	}
	if sha256Hex.MatchString(text) && !hexClear {
		c.Verifier = secret.Verifier("{sha256}" + text)
		return c, nil
	}
	if err := putSecret(&c, text); err != nil {
		return c, clientError(c.ID, err)
	}
	return c, nil
}

// doorkeeperTokens reads the tokens of one of the two columns of rows that are not
// revoked.
func doorkeeperTokens(f found, s *Source, column string) query[evergrant.ImportToken] {
	v, c, u := f.view(s, "access_token", "t"), f.view(s, "client", "c"), f.view(s, "user", "u")
	q := query[evergrant.ImportToken]{
		base:   v.from(),
		joined: c.join("id", v, "application_id") + u.join("id", v, "resource_owner_id"),
		gone:   v.get("revoked_at") + " IS NOT NULL",
		tail:   byClient(v.get("application_id")),
		fields: []field{
			{"token", v.get(column)}, {"uid", c.get("uid")}, {"scopes", v.get("scopes")}, {"created", v.time(v.get("created_at"))},
			{"lifetime", v.get("expires_in")}, {"user_id", v.get("resource_owner_id")}, {"type", v.get("resource_owner_type")},
			{"username", u.get("username")}, {"email", u.get("email")},
		},
		read: func(r row) (evergrant.ImportToken, error) { return s.doorkeeperToken(r, column == "token") },
	}
	if column == "refresh_token" {
		// Rows without one are the access tokens' to count.
		q.where = v.get(column) + " IS NOT NULL AND " + v.get(column) + " <> ''"
		if _, ok := v.column("refresh_token_revoked_at"); ok {
			q.gone += " OR " + v.get("refresh_token_revoked_at") + " IS NOT NULL"
		}
	}
	return q
}

func (s *Source) doorkeeperToken(r row, access bool) (evergrant.ImportToken, error) {
	t := evergrant.ImportToken{
		Access: access, Token: secret.NewText(r.text("token")), ClientID: r.text("uid"), Subject: subject(r), Scope: spaced(r.text("scopes")),
	}
	var err error
	if t.IssuedAt, err = r.time("created", time.UTC); err != nil {
		return t, tokenError(t, err)
	}
	if access && !r.null("lifetime") {
		lifetime, err := r.number("lifetime")
		if err != nil {
			return t, tokenError(t, err)
		}
		t.ExpiresAt = t.IssuedAt.Add(time.Duration(lifetime) * time.Second)
	}
	var owner error
	if kind := r.text("type"); kind != "" && kind != "User" {
		owner = errors.New("its resource owner is a " + quotable(kind) + ", and only those of the table users are known")
	}
	return s.finish(t, owner)
}
