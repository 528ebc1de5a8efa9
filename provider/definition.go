package provider

import (
	"github.com/evergrant/evergrant/oauth"
)

// Definition is what is known of one provider, as data. Texts marked
// (template) may name values in braces; the package comment lists them.
//
// The yaml names are the keys of a definition file, and a key without omitempty
// is required. The tag enum lists the values that a text may have. These tags
// and the comments are what the JSON Schema is made of.
type Definition struct {
	Name  string `yaml:"name"`            // lower case letters, digits and hyphens
	Title string `yaml:"title,omitempty"` // for people; the name where empty
	Docs  string `yaml:"docs,omitempty"`  // URL of the provider's documentation

	// Issuer is the issuer identifier of a provider that publishes its metadata
	// (RFC 8414, OpenID Connect Discovery): the endpoints that are empty below
	// are taken from there. (template, of params alone)
	Issuer       string `yaml:"issuer,omitempty"`
	AuthorizeURL string `yaml:"authorize_url,omitempty"` // (template) to which the owner's browser is sent; may be empty where connections begin otherwise
	TokenURL     string `yaml:"token_url,omitempty"`     // (template) of the token endpoint
	RevokeURL    string `yaml:"revoke_url,omitempty"`    // (template) RFC 7009; empty where there is none

	// Grant is how a connection begins: authorization_code (also where empty),
	// or client_credentials, which needs no owner.
	Grant string `yaml:"grant,omitempty" enum:"authorization_code,client_credentials"`
	// Params are values that differ between connections, such as a subdomain.
	Params map[string]Param `yaml:"params,omitempty"`

	Authorize         Authorize `yaml:"authorize,omitempty"`          // the authorization request
	Token             Request   `yaml:"token,omitempty"`              // what all token requests have in common
	Exchange          Request   `yaml:"exchange,omitempty"`           // of an authorization code, over token
	Refresh           Request   `yaml:"refresh,omitempty"`            // by the refresh token, over token
	ClientCredentials Request   `yaml:"client_credentials,omitempty"` // by the app itself, over token
	Revoke            Request   `yaml:"revoke,omitempty"`             // RFC 7009, over token

	Response     Response        `yaml:"response,omitempty"`      // how a token answer is read
	Errors       []ErrorRule     `yaml:"errors,omitempty"`        // the first that matches decides; then RFC 6749 section 5.2 and the status
	AccessToken  AccessToken     `yaml:"access_token,omitempty"`  // what is known of access tokens
	RefreshToken RefreshToken    `yaml:"refresh_token,omitempty"` // what is known of refresh tokens
	Remint       Remint          `yaml:"remint,omitempty"`        // how to get new tokens without owner and refresh token
	API          API             `yaml:"api,omitempty"`           // how the provider's API is called
	Limits       Limits          `yaml:"limits,omitempty"`        // what the provider bears
	Facts        map[string]Fact `yaml:"facts,omitempty"`         // by dotted path of the field that they support, such as refresh_token.replay_window
}

// Param is a value that differs between connections.
type Param struct {
	Title   string `yaml:"title,omitempty"`   // for people; the name where empty
	Pattern string `yaml:"pattern,omitempty"` // regular expression (RE2) for the whole value; letters, digits, dots and hyphens where empty
	Default string `yaml:"default,omitempty"` // the value where none is given; a param without one is required, unless its pattern matches the empty text
	// From says where the provider tells the value: "redirect:NAME", a parameter
	// of the redirect to the callback, or "answer:PATH", a field of the token
	// answer. Empty where whoever connects tells it.
	From string `yaml:"from,omitempty"`
}

// Authorize is how the authorization request is written.
type Authorize struct {
	Params         map[string]*string `yaml:"params,omitempty"`                // (templates) added to or over the standard ones; null removes one
	Scopes         oauth.Scope        `yaml:"scopes,omitempty"`                // asked for where a registration names none
	ScopeSeparator string             `yaml:"scope_separator,omitempty"`       // between the tokens of a scope; a space where empty
	PKCE           string             `yaml:"pkce,omitempty" enum:"S256,none"` // S256 (also where empty) or none
	Keep           map[string]string  `yaml:"keep,omitempty"`                  // metadata to keep: name → parameter of the redirect
}

// Body is the form in which parameters are sent.
type Body string

// The forms.
const (
	BodyForm      Body = "form" // application/x-www-form-urlencoded
	BodyJSON      Body = "json"
	BodyQuery     Body = "query" // in the URL, with an empty body
	BodyMultipart Body = "multipart"
)

// ClientAuth is how the client proves who it is at the token endpoint.
type ClientAuth string

// The ways.
const (
	AuthBody         ClientAuth = "body"           // client_id and client_secret as parameters
	AuthBasic        ClientAuth = "basic"          // RFC 6749 section 2.3.1: both are form-encoded first
	AuthBasicRaw     ClientAuth = "basic_raw"      // not encoded, as many providers expect
	AuthSecretAsUser ClientAuth = "secret_as_user" // the secret is the user name of Basic, without password
	AuthID           ClientAuth = "id"             // client_id as parameter, no secret
	AuthNone         ClientAuth = "none"           // nothing
)

// Request is how one request to a provider is written. Empty fields are taken
// from token, and then from the defaults that are named.
type Request struct {
	URL    string `yaml:"url,omitempty"`                                     // (template) token_url where empty, for a revocation revoke_url
	Method string `yaml:"method,omitempty" enum:"POST,GET,PUT,PATCH,DELETE"` // POST where empty
	Body   Body   `yaml:"body,omitempty" enum:"form,json,query,multipart"`   // form where empty
	// ClientAuth is how the client proves who it is.
	ClientAuth ClientAuth `yaml:"client_auth,omitempty" enum:"body,basic,basic_raw,secret_as_user,id,none"`
	GrantType  string     `yaml:"grant_type,omitempty"` // the one of RFC 6749 that the request is for
	// Params (templates) are added to or over the standard ones; null removes
	// one.
	Params  map[string]*string `yaml:"params,omitempty"`
	Headers map[string]string  `yaml:"headers,omitempty"` // (templates) added to or over the standard ones
}

// Step is one request of a re-mint.
type Step struct {
	Request `yaml:",inline"`
	// Save names values of the answer that later steps use as saved.NAME: name →
	// path. The last step gives the tokens and saves nothing.
	Save map[string]string `yaml:"save,omitempty"`
}

// Remint gets new tokens for a connection without its owner and without its
// refresh token. A step with a grant_type has the standard parameters and the
// client authentication of that grant; one without has only its own.
type Remint struct {
	Steps []Step `yaml:"steps,omitempty"` // in order; the first answer that is no success ends them
}

// Response is how a token answer is read. Paths are dotted, numbers index
// arrays; the first of several paths, separated by "|", that is there counts.
type Response struct {
	Envelope     string            `yaml:"envelope,omitempty"`      // path of the object with the tokens, which may be JSON in a string; tokens are looked for outside too where it is missing
	AccessToken  string            `yaml:"access_token,omitempty"`  // path; access_token where empty
	RefreshToken string            `yaml:"refresh_token,omitempty"` // path; refresh_token where empty
	TokenType    string            `yaml:"token_type,omitempty"`    // path; token_type where empty
	Scope        string            `yaml:"scope,omitempty"`         // path; scope where empty. A text with spaces, commas or pluses, or an array
	Expires      []Expiry          `yaml:"expires,omitempty"`       // of the access token; expires_in in seconds, then expires_at
	RefreshEnds  []Expiry          `yaml:"refresh_ends,omitempty"`  // of the refresh token; refresh_token_expires_in in seconds, then refresh_token_expires_at
	Keep         map[string]string `yaml:"keep,omitempty"`          // metadata to keep: name → path in the whole answer
	Extra        map[string]string `yaml:"extra,omitempty"`         // further tokens: name → path of the object that has access_token, and perhaps the rest
	Success      *Match            `yaml:"success,omitempty"`       // must hold; otherwise the answer is an error, whatever its status
	ErrorCode    string            `yaml:"error_code,omitempty"`    // path; error where empty
	ErrorDetail  string            `yaml:"error_detail,omitempty"`  // path; error_description where empty
	// Prolongs says that a success without tokens means that the old ones live
	// on, for another access_token.lifetime.
	Prolongs bool `yaml:"prolongs,omitempty"`
}

// Expiry is one way in which an answer tells when something expires.
type Expiry struct {
	Path string `yaml:"path"` // in the answer
	// Form is how the value is written; seconds from now where empty.
	Form string `yaml:"form,omitempty" enum:"seconds,milliseconds,unix,unix_ms,rfc3339,http_date,days_clock,auto"`
}

// The forms of expiries. Numbers may be texts.
const (
	FormSeconds      = "seconds"
	FormMilliseconds = "milliseconds"
	FormUnix         = "unix"    // seconds since the epoch
	FormUnixMilli    = "unix_ms" // milliseconds since the epoch
	FormRFC3339      = "rfc3339" // also without zone, which is UTC
	FormHTTPDate     = "http_date"
	FormDaysClock    = "days_clock" // D:HH:MM from now
	FormAuto         = "auto"       // a point in time: unix, unix_ms, rfc3339 or http_date by its look
)

// Match compares a value of an answer.
type Match struct {
	Path string   `yaml:"path,omitempty"` // in the answer
	Is   []string `yaml:"is,omitempty"`   // any of these, numbers and booleans as JSON writes them
	Has  string   `yaml:"has,omitempty"`  // contains, without regard to case
}

// ErrorRule tells what an answer that is an error means. All conditions that
// are given must hold.
type ErrorRule struct {
	Status int `yaml:"status,omitempty"` // HTTP status of the answer
	Match  `yaml:",inline"`
	// Class is what it means for the connection.
	Class      Class          `yaml:"class" enum:"transient,throttled,ambiguous,revoked,refresh_token_expired,bad_client,bad_definition,consent_required"`
	RetryAfter oauth.Lifetime `yaml:"retry_after,omitempty"` // where the answer has no Retry-After
}

// AccessToken is what is known of access tokens.
type AccessToken struct {
	Lifetime       oauth.Lifetime `yaml:"lifetime,omitempty"`         // where an answer does not tell it; "0" is unlimited
	ZeroIsForever  bool           `yaml:"zero_is_forever,omitempty"`  // an expires_in of 0 means that it never expires
	RefreshAhead   oauth.Lifetime `yaml:"refresh_ahead,omitempty"`    // over the keeper's setting
	OneAtATime     bool           `yaml:"one_at_a_time,omitempty"`    // a refresh ends the access token that was alive
	NoEarlyRefresh oauth.Lifetime `yaml:"no_early_refresh,omitempty"` // a refresh is refused until so long before the expiry
}

// Rotation is what a refresh does to the refresh token.
type Rotation string

// The rotations.
const (
	RotationNone      Rotation = "none"       // there are no refresh tokens
	RotationFixed     Rotation = "fixed"      // it stays the same
	RotationRotating  Rotation = "rotating"   // a new one, and the old one ends
	RotationSingleUse Rotation = "single_use" // a new one; presenting the old one ends the whole grant
)

// RefreshToken is what is known of refresh tokens.
type RefreshToken struct {
	// Rotation is what a refresh does to it; single_use, the careful assumption,
	// where empty.
	Rotation Rotation `yaml:"rotation,omitempty" enum:"none,fixed,rotating,single_use"`
	// ReplayWindow is how long after its use an old refresh token still works, as
	// long as nothing of the answer was used.
	ReplayWindow oauth.Lifetime `yaml:"replay_window,omitempty"`
	IdleLifetime oauth.Lifetime `yaml:"idle_lifetime,omitempty"` // unless it is used
	Lifetime     oauth.Lifetime `yaml:"lifetime,omitempty"`      // of the grant from its beginning, whatever is used
	// DiesWithAccessToken says that it is refused after the access token expired.
	DiesWithAccessToken bool `yaml:"dies_with_access_token,omitempty"`
}

// API is how the provider's API is called.
type API struct {
	BaseURL       string            `yaml:"base_url,omitempty"`      // (template) below which the proxy calls
	Authorization string            `yaml:"authorization,omitempty"` // (template) of the header; "Bearer {access_token}" where empty
	Headers       map[string]string `yaml:"headers,omitempty"`       // (templates) of each call
	// Check is the path of a cheap GET that answers 401 to a dead access token
	// and 2xx to a live one.
	Check string `yaml:"check,omitempty"`
}

// Limits are what a provider bears of token requests by one registered app.
type Limits struct {
	Concurrency int            `yaml:"concurrency,omitempty"` // requests at once; 8 where 0
	Rate        Rate           `yaml:"rate,omitempty"`        // of the app; 20 per second where zero
	Connection  Rate           `yaml:"connection,omitempty"`  // of one connection; none where zero
	Timeout     oauth.Lifetime `yaml:"timeout,omitempty"`     // of a whole request; 30s where 0
}

// Rate is so many requests in a time.
type Rate struct {
	Count int            `yaml:"count,omitempty"` // of requests
	Per   oauth.Lifetime `yaml:"per,omitempty"`   // the time
}

// Fact says how a behaviour is known.
type Fact struct {
	Known  string `yaml:"known" enum:"read,believed"` // read in the source, or believed
	Source string `yaml:"source"`                     // URL of the document, or where it was seen
	Note   string `yaml:"note,omitempty"`             // for people
}

// The ways of knowing.
const (
	KnownRead     = "read"
	KnownBelieved = "believed"
)
