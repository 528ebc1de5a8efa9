package providertest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// Dialect is how a provider's authorization server speaks and behaves, as data.
// The zero value is a plain RFC 6749 server with single-use refresh tokens, on
// which nothing expires. Durations of 0 are without end, or of no length where
// they are a window; counts of 0 are without limit.
//
// Answers are JSON templates. A text that is a name in braces becomes the value
// of that name, with its type; where there is no value the field is left out.
// {text:NAME} is the value as a text, {null:NAME} is null where there is none,
// and braces inside a longer text are replaced there. The names: access_token,
// refresh_token, user_access_token (a further one), scope, scope_list, expires_in,
// expires_ms, expires_at, expires_at_ms, expires_at_rfc3339, expires_at_http,
// expires_clock (D:HH:MM), all of these also as refresh_expires..., issued_at,
// issued_at_ms, owner, owner_id, grant, base (URL of the simulator), code; and in
// failures error, error_description and status.
type Dialect struct {
	Name string

	// Token requests.
	Bodies         []provider.Body       // what is read; form where empty. query permits GET too
	ClientAuth     []provider.ClientAuth // what is accepted; body and basic where empty
	Names          map[string]string     // standard parameter → its name here
	Grants         []string              // standard grant types that are served; authorization_code and refresh_token where empty
	GrantTypes     map[string]string     // grant type as it is written here → the standard one; as they are where empty
	DefaultGrant   string                // standard grant type of a request that names none, or Inferred; refused where ""
	Require        map[string]string     // parameters that there must be → their value, any where ""
	RequireHeader  []string              // headers that there must be
	ScopeSeparator string                // a space where ""
	Withheld       []string              // scopes that are never granted

	// The beginning of a grant.
	Offline       map[string]string // parameters without which an authorization gives no refresh token
	Redirect      map[string]string // (templates) further parameters of the redirect to the client
	PKCE          bool              // a code challenge is demanded; one that comes is always checked
	ClientRefresh bool              // client_credentials gives a refresh token, of one grant that is the client's own
	Owners        bool              // OwnersPath is served
	Mint          *Mint             // MintPath is served

	// Answers.
	Answer        string // (template)
	Failure       string // (template)
	FailureStatus int    // of token requests, where the code has none; as RFC 6749 section 5.2 has it where 0
	Codes         map[Refusal]Code
	FormAnswers   bool          // of token requests: form-encoded, unless the request accepts application/json
	Shape         func(any) any // changes a good answer in a way that no template can; none where nil
	Scheme        string        // of the Authorization header at the API; Bearer where ""
	Revoke        *Revocation   // RevokePath is served
	TokenLength   int           // random characters of a token; 32 where 0

	// Lifetimes and limits.
	AccessLife            time.Duration
	RefreshIdle           time.Duration // of a refresh token, anew with each refresh
	GrantLife             time.Duration // of a grant, whatever is used
	RefreshDiesWithAccess bool          // refresh tokens end with the access token beside them
	NoEarlyRefresh        time.Duration // a refresh is refused while the access token lives longer than that; never where 0
	LiveAccessTokens      int           // of a grant at once: the oldest end, 1 means that a refresh ends the one before
	GrantsPerOwner        int           // at once: the oldest end without a word
	TokenRate             provider.Rate // of refreshes with one refresh token
	ClientRate            provider.Rate // of token requests

	// Rotation. RotationSingleUse, also where empty, ends the whole grant when a
	// consumed refresh token comes again.
	Rotation             provider.Rotation
	ReplayWindow         time.Duration // after its first use, in which a consumed refresh token works again, unless its successor was used
	UntilUsed            bool          // the first use of the new access token closes that window too
	RepeatsFixed         bool          // a refresh token that did not change is told again
	ChangeEvery          int           // refreshes after which a fixed refresh token changes; the one before works until the next change
	OneShot              bool          // a refresh consumes the refresh token and gives no new one
	AccessTokenRefreshes bool          // an access token that lives is accepted as refresh token

	// Definition is the part of the definition that the fields above do not tell.
	// URLs of its steps stand below the base URL, "/authorization-grant".
	Definition provider.Definition
}

// Inferred as Dialect.DefaultGrant tells the grant type by the parameters: a
// code, a refresh token, or neither.
const Inferred = "inferred"

// Mint is a way to new tokens without the owner: a POST to MintPath that names
// him.
type Mint struct {
	Owner       []string // parameters, one of which names the owner, by name or by id
	ClientScope string   // of the client's access token that must be the bearer; where "", the client proves itself as at the token endpoint
	Answer      string   // (template) with {code}; tokens where ""
}

// Revocation is how tokens are revoked at RevokePath.
type Revocation struct {
	Open   bool   // to anybody, without client authentication
	Single bool   // only the token itself; otherwise a refresh token ends its grant
	Answer string // (template); empty where ""
}

// Refusal is why a request is refused.
type Refusal string

// The refusals. Those at an API or MintPath are the last four.
const (
	RefuseRequest   Refusal = "request" // a parameter, a header or the form of the body
	RefuseClient    Refusal = "client"
	RefuseGrantType Refusal = "grant type"
	RefuseScope     Refusal = "scope"
	RefuseCode      Refusal = "code"
	RefuseRefresh   Refusal = "refresh token" // unknown, consumed, revoked
	RefuseExpired   Refusal = "expired refresh token"
	RefuseEarly     Refusal = "early refresh"
	RefuseThrottled Refusal = "throttled"
	RefuseConsent   Refusal = "consent" // told in the redirect
	RefuseToken     Refusal = "access token"
	RefusePower     Refusal = "power" // the access token lives, but may not do that
	RefuseOwner     Refusal = "owner" // not there
	RefuseTaken     Refusal = "taken" // the owner is there already
)

// Code is how a dialect says a refusal.
type Code struct {
	Status int    // HTTP; the usual one, or Dialect.FailureStatus, where 0
	Value  any    // {error}: a text or a number
	Text   string // {error_description}; the simulator's own where ""
}

// Paths of a simulator. Any path below TokenPath is the token endpoint too, and
// any below APIPath the API.
const (
	AuthorizePath = "/authorize"
	TokenPath     = "/token"
	RevokePath    = "/revoke"
	MintPath      = "/authorization-grant"
	OwnersPath    = "/user/create"
	APIPath       = "/api"
	MePath        = "/api/me"
)

const (
	plainAnswer  = `{"access_token":"{access_token}","token_type":"Bearer","expires_in":"{expires_in}","refresh_token":"{refresh_token}","scope":"{scope}"}`
	plainFailure = `{"error":"{error}","error_description":"{error_description}"}`
)

func (d *Dialect) rotation() provider.Rotation {
	return cmp.Or(d.Rotation, provider.RotationSingleUse)
}

func (d *Dialect) grants() []string {
	if len(d.Grants) > 0 {
		return d.Grants
	}
	return []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
}

// scope reads a scope as the dialect writes it, without what it never grants.
func (d *Dialect) scope(text string) oauth.Scope {
	var scope oauth.Scope
	for token := range strings.SplitSeq(text, cmp.Or(d.ScopeSeparator, " ")) {
		if token != "" && !slices.Contains(d.Withheld, token) {
			scope = append(scope, token)
		}
	}
	return scope
}
