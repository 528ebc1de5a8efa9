package foreign

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

// fos are the tables of FOSOAuthServerBundle's entities. The application names
// them, so they are found by their columns.
func fos() kind {
	token := []string{"token", "expires_at", "scope", "*client_id"}
	return kind{name: "fos", plan: fosPlan, roles: []role{
		{name: "client", anywhere: true, columns: []string{"id", "random_id", "redirect_uris", "secret", "allowed_grant_types"}},
		{name: "refresh_token", anywhere: true, columns: token, without: "redirect_uri", part: "refresh"},
		{name: "access_token", anywhere: true, columns: token, without: "redirect_uri", part: "access"},
		{name: "user", table: "fos_user", anywhere: true, columns: []string{"id", "password", "username|email"}, optional: true},
	}}
}

func fosPlan(f found, s *Source) plan {
	c, u := f.view(s, "client", "t"), f.view(s, "user", "t")
	return plan{
		clients: query[evergrant.ImportClient]{
			base: c.from(),
			fields: []field{
				{"id", c.get("id")}, {"random", c.get("random_id")}, {"secret", c.get("secret")}, {"uris", c.get("redirect_uris")},
				{"grants", c.get("allowed_grant_types")}, {"name", c.get("name")},
			},
			read: fosClient,
		},
		users: query[evergrant.ImportUser]{
			base: u.from(),
			fields: []field{
				{"user_id", u.get("id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"password", u.get("password")}, {"salt", u.get("salt")},
				{"enabled", u.get("enabled")}, {"locked", u.get("locked")},
			},
			read: func(r row) (evergrant.ImportUser, error) {
				name := subject(r)
				if err := fosDisabled(r); err != nil {
					return evergrant.ImportUser{}, userError(name, err)
				}
				if r.text("password") == "" {
					return evergrant.ImportUser{}, userError(name, errNoPassword)
				}
				v, err := fosPassword(r.text("password"), r.text("salt"), s.options.Iterations)
				if err != nil {
					return evergrant.ImportUser{}, userError(name, err)
				}
				return evergrant.ImportUser{Username: name, Password: v}, nil
			},
		},
		tokens: []query[evergrant.ImportToken]{fosTokens(f, s, "refresh_token"), fosTokens(f, s, "access_token")},
	}
}

// errDisabled says why somebody is not taken over who could sign in again after.
var errDisabled = errors.New("the user is disabled or locked in the other server")

func fosDisabled(r row) error {
	if !r.null("enabled") && !r.yes("enabled") || r.yes("locked") {
		return errDisabled
	}
	return nil
}

func fosClient(r row) (evergrant.ImportClient, error) {
	c := evergrant.ImportClient{ID: r.text("id") + "_" + r.text("random"), Name: r.text("name")}
	var err error
	if c.RedirectURIs, err = list(r.text("uris")); err != nil {
		return c, clientError(c.ID, fmt.Errorf("redirect_uris: %w", err))
	}
	grants, err := list(r.text("grants"))
	if err != nil {
		return c, clientError(c.ID, fmt.Errorf("allowed_grant_types: %w", err))
	}
	c.GrantTypes = grantTypes(grants)
	if r.text("secret") != "" {
		if err := putSecret(&c, r.text("secret")); err != nil {
			return c, clientError(c.ID, err)
		}
	}
	return c, nil
}

// fosPassword is what verifies a password of FOSUserBundle: bcrypt, argon2 or
// Symfony's message digest, in base64 or hexadecimal, whose length tells which.
func fosPassword(text, salt string, iterations int) (secret.Verifier, error) {
	if strings.HasPrefix(text, "$") || strings.HasPrefix(text, "{") {
		return password(text)
	}
	digest, err := base64.StdEncoding.DecodeString(text)
	if hexDigits.MatchString(text) && (len(text) == 40 || len(text) == 64 || len(text) == 128) {
		digest, err = hex.DecodeString(text)
	}
	algorithm := map[int]string{20: "sha1", 32: "sha256", 64: "sha512"}[len(digest)]
	if err != nil || algorithm == "" {
		return "", errors.New("what verifies the password is not known here: it is none of bcrypt, argon2 and Symfony's digests")
	}
	return password("{symfony}" + algorithm + "$" + strconv.Itoa(iterations) + "$" + salt + "$" + base64.StdEncoding.EncodeToString(digest))
}

// fosTokens reads one of the two tables of tokens. expires_at counts seconds, and
// is null or 0 for a token that never expires.
func fosTokens(f found, s *Source, role string) query[evergrant.ImportToken] {
	v, c, u := f.view(s, role, "t"), f.view(s, "client", "c"), f.view(s, "user", "u")
	expires := v.get("expires_at")
	return query[evergrant.ImportToken]{
		base:   v.from(),
		joined: c.join("id", v, "*client_id") + u.join("id", v, "*user_id"),
		tail:   byClient(v.get("*client_id")),
		gone:   expires + " > 0 AND " + expires + " < " + strconv.FormatInt(s.now.Unix(), 10),
		fields: []field{
			{"token", v.get("token")}, {"expires", expires}, {"scope", v.get("scope")}, {"client_id", c.get("id")}, {"random", c.get("random_id")},
			{"user_id", v.get("*user_id")}, {"username", u.get("username")}, {"email", u.get("email")}, {"enabled", u.get("enabled")}, {"locked", u.get("locked")},
		},
		read: func(r row) (evergrant.ImportToken, error) {
			t := evergrant.ImportToken{
				Access: role == "access_token", Token: secret.NewText(r.text("token")), Subject: subject(r), Scope: spaced(r.text("scope")),
			}
			if !r.null("client_id") {
				t.ClientID = r.text("client_id") + "_" + r.text("random")
			}
			if !r.null("expires") && r.text("expires") != "0" {
				seconds, err := r.number("expires")
				if err != nil {
					return t, tokenError(t, err)
				}
				t.ExpiresAt = time.Unix(seconds, 0).UTC()
			}
			return s.finish(t, fosDisabled(r))
		},
	}
}
