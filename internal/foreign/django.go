package foreign

import (
	"errors"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// django are the tables of django-oauth-toolkit, with Django's users.
func django() kind {
	return kind{name: "django", plan: djangoPlan, roles: []role{
		{name: "client", table: "oauth2_provider_application", columns: []string{"id", "client_id", "client_secret", "client_type", "authorization_grant_type", "redirect_uris"}},
		{name: "refresh_token", table: "oauth2_provider_refreshtoken", columns: []string{"id", "token", "application_id", "access_token_id", "user_id"}},
		{name: "access_token", table: "oauth2_provider_accesstoken", columns: []string{"id", "token", "application_id", "expires", "scope", "user_id"}},
		{name: "user", table: "auth_user", anywhere: true, columns: []string{"id", "password", "is_superuser", "last_login", "username|email"}, optional: true},
	}}
}

func djangoPlan(f found, s *Source) plan {
	c, u := f.view(s, "client", "t"), f.view(s, "user", "t")
	return plan{
		clients: query[evergrant.ImportClient]{
			base: c.from(),
			fields: []field{
				{"id", c.get("client_id")}, {"secret", c.get("client_secret")}, {"type", c.get("client_type")}, {"grant", c.get("authorization_grant_type")},
				{"uris", c.get("redirect_uris")}, {"name", c.get("name")}, {"trusted", c.get("skip_authorization")},
			},
			read: djangoClient,
		},
		users: query[evergrant.ImportUser]{
			base: u.from(),
			fields: []field{
				{"user_id", u.get("id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"password", u.get("password")}, {"active", u.get("is_active")},
			},
			read: func(r row) (evergrant.ImportUser, error) {
				name, text := subject(r), r.text("password")
				if err := djangoDisabled(r); err != nil {
					return evergrant.ImportUser{}, userError(name, err)
				}
				if text == "" || text[0] == '!' {
					return evergrant.ImportUser{}, userError(name, errNoPassword)
				}
				v, err := password(text)
				if err != nil {
					return evergrant.ImportUser{}, userError(name, err)
				}
				return evergrant.ImportUser{Username: name, Password: v}, nil
			},
		},
		tokens: []query[evergrant.ImportToken]{djangoRefreshTokens(f, s), djangoAccessTokens(f, s)},
	}
}

func djangoDisabled(r row) error {
	if !r.null("active") && !r.yes("active") {
		return errDisabled
	}
	return nil
}

// djangoGrants are the grant types by the one that an application has. Whatever
// it is, a refresh token may be used.
func djangoGrants(name string) ([]string, error) {
	switch name {
	case "authorization-code", "openid-hybrid":
		return []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}, nil
	case "implicit":
		return []string{oauth.GrantImplicit}, nil
	case "password":
		return []string{oauth.GrantPassword, oauth.GrantRefreshToken}, nil
	case "client-credentials":
		return []string{oauth.GrantClientCredentials}, nil
	}
	return nil, errors.New("the grant type " + quotable(name) + " is not known here")
}

// djangoSecret is a secret that was hashed, by the names of Django's hashers.
func djangoSecret(text string) bool {
	algorithm, _, ok := strings.Cut(text, "$")
	return ok && (strings.HasPrefix(algorithm, "pbkdf2_") || strings.HasPrefix(algorithm, "bcrypt") || algorithm == "argon2" || algorithm == "scrypt")
}

func djangoClient(r row) (evergrant.ImportClient, error) {
	c := evergrant.ImportClient{ID: r.text("id"), Name: r.text("name"), RedirectURIs: strings.Fields(r.text("uris")), Trusted: r.yes("trusted")}
	var err error
	if c.GrantTypes, err = djangoGrants(r.text("grant")); err != nil {
		return c, clientError(c.ID, err)
	}
	text := r.text("secret")
	switch {
	case r.text("type") == "public":
	case text == "":
		return c, clientError(c.ID, errNoSecret)
	case djangoSecret(text):
		if c.Verifier, err = secret.ForeignVerifier(text); err != nil {
			return c, clientError(c.ID, err)
		}
	default:
		c.Secret = secret.NewText(text)
	}
	return c, nil
}

// djangoRefreshTokens reads the refresh tokens that are not revoked. Their scope is
// that of their access token: the one that came with it or, where that is gone, the
// one that it was used for.
func djangoRefreshTokens(f found, s *Source) query[evergrant.ImportToken] {
	v, c, u := f.view(s, "refresh_token", "t"), f.view(s, "client", "c"), f.view(s, "user", "u")
	access, next := f.view(s, "access_token", "a"), f.view(s, "access_token", "n")
	q := query[evergrant.ImportToken]{
		base:   v.from(),
		tail:   byClient(v.get("application_id")),
		joined: c.join("id", v, "application_id") + u.join("id", v, "user_id") + access.join("id", v, "access_token_id"),
		fields: []field{
			{"token", v.get("token")}, {"client", c.get("client_id")}, {"scope", access.get("scope")}, {"created", v.time(v.get("created"))},
			{"user_id", v.get("user_id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"active", u.get("is_active")}, {"expires", "NULL"},
		},
		read: func(r row) (evergrant.ImportToken, error) { return s.djangoToken(r, false) },
	}
	if _, ok := v.column("revoked"); ok {
		q.gone = v.get("revoked") + " IS NOT NULL"
	}
	if next.there() {
		if _, ok := next.column("source_refresh_token_id"); ok {
			q.joined += next.join("source_refresh_token_id", v, "id")
			q.fields[2].expression = "COALESCE(" + access.get("scope") + ", " + next.get("scope") + ")"
		}
	}
	return q
}

func djangoAccessTokens(f found, s *Source) query[evergrant.ImportToken] {
	v, c, u := f.view(s, "access_token", "t"), f.view(s, "client", "c"), f.view(s, "user", "u")
	return query[evergrant.ImportToken]{
		base:   v.from(),
		tail:   byClient(v.get("application_id")),
		joined: c.join("id", v, "application_id") + u.join("id", v, "user_id"),
		gone:   v.get("expires") + " < '" + s.now.UTC().AddDate(0, 0, -1).Format(time.DateTime) + "'",
		fields: []field{
			{"token", v.get("token")}, {"client", c.get("client_id")}, {"scope", v.get("scope")}, {"created", v.time(v.get("created"))},
			{"user_id", v.get("user_id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"active", u.get("is_active")}, {"expires", v.time(v.get("expires"))},
		},
		read: func(r row) (evergrant.ImportToken, error) { return s.djangoToken(r, true) },
	}
}

func (s *Source) djangoToken(r row, access bool) (evergrant.ImportToken, error) {
	t := evergrant.ImportToken{
		Access: access, Token: secret.NewText(r.text("token")), ClientID: r.text("client"), Subject: subject(r), Scope: spaced(r.text("scope")),
	}
	var err error
	if t.IssuedAt, err = r.time("created", time.UTC); err != nil {
		return t, tokenError(t, err)
	}
	if t.ExpiresAt, err = r.time("expires", time.UTC); err != nil {
		return t, tokenError(t, err)
	}
	return s.finish(t, djangoDisabled(r))
}
