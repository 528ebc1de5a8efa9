package foreign

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// bshaffer are the tables of oauth2-server-php's PDO storage. Its user ids are
// user names. Times are text without a zone, and one of a refresh token that never
// expires is the beginning of 1970.
func bshaffer() kind {
	return kind{name: "bshaffer", plan: bshafferPlan, roles: []role{
		{name: "client", table: "oauth_clients", columns: []string{"client_id", "client_secret", "redirect_uri"}},
		{name: "refresh_token", table: "oauth_refresh_tokens", columns: []string{"refresh_token", "client_id", "expires"}},
		{name: "access_token", table: "oauth_access_tokens", columns: []string{"access_token", "client_id", "expires"}},
		{name: "user", table: "oauth_users", columns: []string{"username", "password"}, optional: true},
		{name: "scope", table: "oauth_scopes", columns: []string{"scope"}, optional: true},
	}}
}

func bshafferPlan(f found, s *Source) plan {
	c, u := f.view(s, "client", "t"), f.view(s, "user", "t")
	scopes := &bshafferScopes{source: s, view: f.view(s, "scope", "t")}
	return plan{
		clients: query[evergrant.ImportClient]{
			base: c.from(),
			fields: []field{
				{"id", c.get("client_id")}, {"secret", c.get("client_secret")}, {"uris", c.get("redirect_uri")},
				{"grants", c.get("grant_types")}, {"scope", c.get("scope")}, {"name", c.get("client_name", "name")},
			},
			before: scopes.read,
			read:   func(r row) (evergrant.ImportClient, error) { return bshafferClient(r, scopes.all) },
		},
		users: query[evergrant.ImportUser]{
			base:   u.from(),
			fields: []field{{"username", u.get("username")}, {"password", u.get("password")}},
			read: func(r row) (evergrant.ImportUser, error) {
				v, err := password(r.text("password"))
				if err != nil {
					return evergrant.ImportUser{}, userError(r.text("username"), err)
				}
				return evergrant.ImportUser{Username: r.text("username"), Password: v}, nil
			},
		},
		tokens: []query[evergrant.ImportToken]{
			bshafferTokens(f.view(s, "refresh_token", "t"), s, "refresh_token"),
			bshafferTokens(f.view(s, "access_token", "t"), s, "access_token"),
		},
	}
}

func bshafferClient(r row, scopes string) (evergrant.ImportClient, error) {
	c := evergrant.ImportClient{
		ID: r.text("id"), Name: r.text("name"), RedirectURIs: strings.Fields(r.text("uris")), Scope: spaced(r.text("scope")),
		GrantTypes: grantTypes(strings.Fields(r.text("grants"))),
	}
	if r.text("secret") != "" {
		if err := putSecret(&c, r.text("secret")); err != nil {
			return c, clientError(c.ID, err)
		}
	}
	if r.null("scope") {
		c.Scope = scopes
	}
	if r.null("grants") { // it may use all
		c.GrantTypes = []string{oauth.GrantAuthorizationCode, oauth.GrantPassword, oauth.GrantRefreshToken}
		if r.text("secret") != "" {
			c.GrantTypes = append(c.GrantTypes, oauth.GrantClientCredentials)
		}
	}
	return c, nil
}

// bshafferScopes are what a client may ask for that has no list of its own.
type bshafferScopes struct {
	source *Source
	view   view
	all    string
}

func (b *bshafferScopes) read(ctx context.Context) error {
	q := query[string]{
		base:   b.view.from(),
		fields: []field{{"scope", b.view.get("scope")}},
		read:   func(r row) (string, error) { return r.text("scope"), nil },
	}
	var all []string
	if !b.view.there() {
		return nil
	}
	err := stream(ctx, b.source, q, func(scope string, _ error) bool {
		all = append(all, strings.Fields(scope)...)
		return true
	})
	slices.Sort(all)
	b.all = strings.Join(slices.Compact(all), " ")
	return err
}

// firstYear is the first in which a time is one: the beginning of 1970, in any
// zone, says never.
const firstYear = 1971

// bshafferTokens reads one of the two tables of tokens. What may be of use is left
// to be told from its time, which the database cannot compare to ours to the hour.
func bshafferTokens(v view, s *Source, column string) query[evergrant.ImportToken] {
	access := column == "access_token"
	yesterday := s.now.In(s.options.Location).AddDate(0, 0, -1).Format(time.DateTime)
	expires := v.get("expires")
	return query[evergrant.ImportToken]{
		base: v.from(),
		tail: byClient(v.get("client_id")),
		gone: expires + " >= '" + strconv.Itoa(firstYear) + "-01-01 00:00:00' AND " + expires + " < '" + yesterday + "'",
		fields: []field{
			{"token", v.get(column)}, {"client", v.get("client_id")}, {"user", v.get("user_id")},
			{"expires", v.time(expires)}, {"scope", v.get("scope")},
		},
		read: func(r row) (evergrant.ImportToken, error) {
			t := evergrant.ImportToken{
				Access: access, Token: secret.NewText(r.text("token")), ClientID: r.text("client"), Subject: r.text("user"), Scope: spaced(r.text("scope")),
			}
			expires, err := r.time("expires", s.options.Location)
			switch {
			case err != nil:
				return t, tokenError(t, err)
			case expires.Year() >= firstYear:
				t.ExpiresAt = expires
			case access:
				return t, errExpired // for access tokens, the beginning of 1970 is past
			}
			if text := r.text("token"); strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") != 2 {
				return t, tokenError(t, errors.New("it is a JWT that was cut off, since its column is too short"))
			}
			return s.finish(t, nil)
		},
	}
}
