package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Client is a registered client (RFC 6749 section 2). One without secrets is
// public.
type Client struct {
	ID           string            `json:"id"`
	Name         string            `json:"name,omitempty"`    // shown to the resource owner; the id where empty
	Secrets      []secret.Verifier `json:"secrets,omitempty"` // any of them authenticates: the old and the new one while a secret is replaced
	RedirectURIs []string          `json:"redirect_uris,omitempty"`
	GrantTypes   []string          `json:"grant_types"`
	// Scopes are what the client may ask for. Empty means all that the server
	// knows but for the reserved ones.
	Scopes oauth.Scope `json:"scopes,omitempty"`
	// Tenant is whose connections of a keeper the client's tokens reach: 1 to 128
	// of letters, digits and -._~, or "" for the operator's own.
	Tenant string `json:"tenant,omitempty"`
	// Introspect lets a resource server introspect tokens of all clients.
	Introspect bool `json:"introspect,omitempty"`
	// Trusted spares the resource owner the consent page. Never for a public
	// client, which anybody can impersonate (RFC 8252 section 8.6).
	Trusted bool `json:"trusted,omitempty"`
	Policy
	Profile   string    `json:"profile,omitempty"`  // of the configured ones; the server's where empty
	Imported  Origin    `json:"imported,omitzero"`  // where an import put it and nobody has changed it since
	Foreign   string    `json:"foreign,omitempty"`  // the source whose tokens may come from it: it, or its tokens, were imported once
	Declared  bool      `json:"declared,omitempty"` // by the configuration file, which wins at each start
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// Public reports whether the client has no secret.
func (c Client) Public() bool { return len(c.Secrets) == 0 }

// Allows reports whether the client may use a grant type.
func (c Client) Allows(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// DisplayName is the name to show to a resource owner.
func (c Client) DisplayName() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// maxIDLength bounds client ids and user names, in bytes.
const maxIDLength = 255

// nameCharacters are those that a URL has unescaped (RFC 3986 section 2.3).
const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

// ErrBadClient is wrapped by errors of Check, whose texts say what to mend.
var ErrBadClient = errors.New("bad client")

// Check says what is wrong with a client's registration, or nil. The error
// wraps ErrBadClient.
func (c Client) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", ErrBadClient, c.ID, fmt.Sprintf(format, args...))
	}
	if !printable(c.ID) || len(c.ID) > maxIDLength {
		return bad("the id must be 1 to 255 printable ASCII characters")
	}
	if !validText(c.Name) || len(c.Name) > maxIDLength {
		return bad("the name must be at most 255 bytes of UTF-8 without control characters")
	}
	known := []string{oauth.GrantAuthorizationCode, oauth.GrantClientCredentials, oauth.GrantPassword, oauth.GrantRefreshToken, oauth.GrantImplicit}
	for _, grantType := range c.GrantTypes {
		if !slices.Contains(known, grantType) {
			return bad("grant type %q is not one of %v", grantType, known)
		}
	}
	switch {
	case c.Public() && c.Allows(oauth.GrantClientCredentials):
		return bad("client_credentials needs a secret (RFC 6749 section 4.4)")
	case c.Public() && c.Introspect:
		return bad("introspect needs a secret")
	case c.Public() && c.Trusted:
		return bad("a public client cannot be trusted: anybody can use its id (RFC 8252 section 8.6)")
	}
	if len(c.Tenant) > 128 || strings.Trim(c.Tenant, nameCharacters) != "" {
		return bad("the tenant must be at most 128 of letters, digits and -._~")
	}
	for _, uri := range c.RedirectURIs {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			return bad("%v", err)
		}
	}
	for _, verifier := range c.Secrets {
		if err := verifier.Check(); err != nil {
			return bad("%v", err)
		}
	}
	if scope, err := oauth.ParseScope(c.Scopes.String()); err != nil || !slices.Equal(scope, c.Scopes) {
		return bad("scopes must be distinct and each without spaces, quotes or backslashes (RFC 6749 section 3.3)")
	}
	if err := c.Policy.Check(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// printable reports whether s is one or more visible ASCII characters or inner
// spaces (VSCHAR, RFC 6749 appendix A.1).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}

// User is a resource owner who can sign in. The user name is the subject of
// tokens.
type User struct {
	Username  string          `json:"username"`
	Password  secret.Verifier `json:"password"`
	Info      json.RawMessage `json:"info,omitempty"`     // a JSON object that a profile's token answers show
	Imported  Origin          `json:"imported,omitzero"`  // where an import put it and nobody has changed it since
	Declared  bool            `json:"declared,omitempty"` // by the configuration file
	CreatedAt time.Time       `json:"created_at,omitzero"`
	UpdatedAt time.Time       `json:"updated_at,omitzero"`
}

// ErrBadUser is wrapped by errors of Check.
var ErrBadUser = errors.New("bad user")

// Check says what is wrong with a user, or nil. The error wraps ErrBadUser.
func (u User) Check() error {
	if u.Username == "" || len(u.Username) > maxIDLength || !validText(u.Username) {
		return fmt.Errorf("%w %q: the user name must be 1 to 255 bytes of UTF-8 without control characters", ErrBadUser, u.Username)
	}
	var info map[string]json.RawMessage
	if len(u.Info) > 0 && json.Unmarshal(u.Info, &info) != nil {
		return fmt.Errorf("%w %q: info must be a JSON object", ErrBadUser, u.Username)
	}
	if err := u.Password.Check(); err != nil {
		return fmt.Errorf("%w %q: %v", ErrBadUser, u.Username, err)
	}
	return nil
}
