package providertest

import (
	"net/http"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// Dialects are all dialects of this package. Each is called after the provider
// whose ways it has; what is not published of one is assumed.
func Dialects() []Dialect {
	return []Dialect{Plain(), Tink(), Eventix(), Flexiti(), Google(), GitHub(), Xero(), Slack(), Withings(), Salesforce(), Zoho(),
		QuickBooks(), Meta(), FOS(), Bshaffer()}
}

const day = 24 * time.Hour

// set is the value of a field that may be null.
type set = map[string]*string

// class is an error rule for codes at a path.
func class(class provider.Class, path string, is ...string) provider.ErrorRule {
	return provider.ErrorRule{Match: provider.Match{Path: path, Is: is}, Class: class}
}

// Plain does what RFC 6749, 7009, 7636 and 9207 say, with single-use refresh
// tokens.
func Plain() Dialect {
	return Dialect{
		Name: "plain", Grants: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		AccessLife: time.Hour, RefreshIdle: 14 * day, Redirect: map[string]string{"iss": "{base}"}, Revoke: &Revocation{},
	}
}

// Tink gives codes to its clients for the users that they name. Apps to which it
// gives no refresh token have RotationNone.
func Tink() Dialect {
	return Dialect{
		Name: "tink", Bodies: []provider.Body{provider.BodyForm}, ClientAuth: []provider.ClientAuth{provider.AuthBody},
		Grants:         []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		ScopeSeparator: ",", Owners: true, Rotation: provider.RotationRotating,
		Mint:       &Mint{Owner: []string{"external_user_id", "user_id"}, ClientScope: "authorization:grant", Answer: `{"code":"{code}"}`},
		Failure:    `{"errorMessage":"{error_description}","errorCode":"{error}"}`,
		AccessLife: 30 * time.Minute,
		Codes: map[Refusal]Code{
			RefuseCode: {Value: "oauth.invalid_grant"}, RefuseRefresh: {Value: "oauth.invalid_grant"}, RefuseExpired: {Value: "oauth.invalid_grant"},
			RefuseClient: {Value: "oauth.invalid_client"}, RefuseConsent: {Value: "USER_CANCELLED"},
		},
		Definition: provider.Definition{
			Authorize: provider.Authorize{PKCE: "none"},
			Response:  provider.Response{ErrorCode: "errorCode", ErrorDetail: "errorMessage"},
			Errors: []provider.ErrorRule{
				class(provider.Revoked, "errorCode", "oauth.invalid_grant"), class(provider.BadClient, "errorCode", "oauth.invalid_client"),
			},
			Remint: provider.Remint{Steps: []provider.Step{
				{Request: provider.Request{GrantType: oauth.GrantClientCredentials, Params: set{"scope": new("authorization:grant")}},
					Save: map[string]string{"client": "access_token"}},
				{Request: provider.Request{URL: MintPath, Params: set{"external_user_id": new("{owner}"), "scope": new("{scope}")},
					Headers: map[string]string{"Authorization": "Bearer {saved.client}"}}, Save: map[string]string{"code": "code"}},
				{Request: provider.Request{GrantType: oauth.GrantAuthorizationCode,
					Params: set{"code": new("{saved.code}"), "redirect_uri": nil, "code_verifier": nil}}},
			}},
		},
	}
}

// Eventix has refresh tokens of a year for single use, and JSON bodies. The year
// is a second short, as its expiry minus now comes out.
func Eventix() Dialect {
	return Dialect{
		Name: "eventix", Bodies: []provider.Body{provider.BodyJSON, provider.BodyForm}, ClientAuth: []provider.ClientAuth{provider.AuthBody},
		AccessLife: 3 * day, RefreshIdle: 365*day - time.Second,
		Answer: `{"token_type":"Bearer","expires_in":"{expires_in}","access_token":"{access_token}","refresh_token":"{refresh_token}",
			"refresh_token_expires_in":"{refresh_expires_in}","info":{"companies":[{"guid":"{owner_id}-1"},{"guid":"{owner_id}-2"}]}}`,
		Failure: `{"error":"{error}","error_description":"{error_description}","message":"{error_description}"}`,
		Definition: provider.Definition{
			Authorize: provider.Authorize{PKCE: "none"},
			Response:  provider.Response{Keep: map[string]string{"companies": "info.companies"}},
		},
	}
}

// Flexiti gives refresh tokens with client_credentials, which end with the
// access token beside them. AccessTokenRefreshes, and a grant type
// client_credential, are in its texts but not in its code.
func Flexiti() Dialect {
	return Dialect{
		Name: "flexiti", Bodies: []provider.Body{provider.BodyForm}, ClientAuth: []provider.ClientAuth{provider.AuthBody},
		Grants:       []string{oauth.GrantClientCredentials, oauth.GrantRefreshToken},
		DefaultGrant: oauth.GrantClientCredentials, RequireHeader: []string{"X-Reference-Id"},
		ClientRefresh: true, RefreshDiesWithAccess: true, AccessLife: 20 * time.Minute, Rotation: provider.RotationRotating,
		Answer: `{"token_type":"bearer","access_token":"{access_token}","expires_in":"{expires_in}","refresh_token":"{refresh_token}","scope":"merchant"}`,
		Definition: provider.Definition{
			Token:  provider.Request{Headers: map[string]string{"x-reference-id": "{uuid}"}},
			Remint: provider.Remint{Steps: []provider.Step{{Request: provider.Request{GrantType: oauth.GrantClientCredentials}}}},
		},
	}
}

// Google has fixed refresh tokens, which only the code's answer tells, and only
// if they were asked for.
func Google() Dialect {
	return Dialect{
		Name: "google", Rotation: provider.RotationFixed, AccessLife: time.Hour, RefreshIdle: 180 * day, GrantsPerOwner: 100,
		Offline: map[string]string{"access_type": "offline", "prompt": "consent"}, Revoke: &Revocation{Open: true, Answer: `{}`},
		Definition: provider.Definition{
			Authorize: provider.Authorize{Params: set{"access_type": new("offline"), "prompt": new("consent")}},
		},
	}
}

// GitHub answers errors with status 200, and in form encoding where JSON is not
// asked for. A refresh ends the access token that lived.
func GitHub() Dialect {
	return Dialect{
		Name: "github", FormAnswers: true, FailureStatus: http.StatusOK, AccessLife: 8 * time.Hour, RefreshIdle: 184 * day, LiveAccessTokens: 1,
		ClientAuth: []provider.ClientAuth{provider.AuthBody},
		Answer: `{"access_token":"{access_token}","expires_in":"{expires_in}","refresh_token":"{refresh_token}",
			"refresh_token_expires_in":"{refresh_expires_in}","token_type":"bearer","scope":""}`,
		Codes: map[Refusal]Code{
			RefuseRefresh: {Value: "bad_refresh_token"}, RefuseExpired: {Value: "bad_refresh_token"}, RefuseCode: {Value: "bad_verification_code"},
			RefuseClient: {Value: "incorrect_client_credentials"},
		},
		Definition: provider.Definition{Errors: []provider.ErrorRule{
			class(provider.Revoked, "error", "bad_refresh_token", "bad_verification_code"), class(provider.BadClient, "error", "incorrect_client_credentials"),
		}},
	}
}

// Xero takes a consumed refresh token again for half an hour.
func Xero() Dialect {
	return Dialect{
		Name: "xero", ClientAuth: []provider.ClientAuth{provider.AuthBasic}, AccessLife: 30 * time.Minute, RefreshIdle: 60 * day,
		Rotation: provider.RotationRotating, ReplayWindow: 30 * time.Minute,
		Definition: provider.Definition{Authorize: provider.Authorize{Scopes: oauth.Scope{"offline_access"}}},
	}
}

// Slack answers errors with status 200 and ok false, and gives a token of the
// bot and one of the user.
func Slack() Dialect {
	return Dialect{
		Name: "slack", DefaultGrant: Inferred, ScopeSeparator: ",", FailureStatus: http.StatusOK, AccessLife: 12 * time.Hour, Rotation: provider.RotationRotating,
		Answer: `{"ok":true,"access_token":"{access_token}","token_type":"bot","expires_in":"{expires_in}","refresh_token":"{refresh_token}","scope":"{scope}",
			"team":{"id":"T1","name":"Simulated"},"authed_user":{"id":"{owner_id}","access_token":"{user_access_token}","token_type":"user"}}`,
		Failure: `{"ok":false,"error":"{error}"}`,
		Codes: map[Refusal]Code{
			RefuseRefresh: {Value: "invalid_refresh_token"}, RefuseExpired: {Value: "invalid_refresh_token"}, RefuseCode: {Value: "invalid_code"},
			RefuseClient: {Value: "bad_client_secret"}, RefuseGrantType: {Value: "invalid_grant_type"},
			RefuseThrottled: {Status: http.StatusTooManyRequests, Value: "ratelimited"},
		},
		Definition: provider.Definition{
			Authorize: provider.Authorize{PKCE: "none"}, Exchange: provider.Request{Params: set{"code_verifier": nil}},
			Response: provider.Response{Success: &provider.Match{Path: "ok", Is: []string{"true"}}, Extra: map[string]string{"user": "authed_user"}},
			Errors: []provider.ErrorRule{
				class(provider.Revoked, "error", "invalid_refresh_token", "invalid_code"), class(provider.BadClient, "error", "bad_client_secret"),
			},
		},
	}
}

// Withings wraps its answers, says in the body what others say in the status,
// and takes a consumed refresh token for eight hours, or until the new access
// token is first used.
func Withings() Dialect {
	return Dialect{
		Name: "withings", Require: map[string]string{"action": "requesttoken"}, ScopeSeparator: ",", ClientAuth: []provider.ClientAuth{provider.AuthBody},
		AccessLife: 3 * time.Hour, RefreshIdle: 365 * day, Rotation: provider.RotationRotating, ReplayWindow: 8 * time.Hour, UntilUsed: true,
		Answer: `{"status":0,"body":{"userid":"{owner_id}","access_token":"{access_token}","refresh_token":"{refresh_token}","scope":"{scope}",
			"expires_in":"{expires_in}","token_type":"Bearer"}}`,
		Failure: `{"status":"{error}","body":{},"error":"{error_description}"}`, FailureStatus: http.StatusOK,
		Codes: map[Refusal]Code{
			RefuseRequest: {Value: 503}, RefuseGrantType: {Value: 503}, RefuseClient: {Value: 342}, RefuseCode: {Value: 401}, RefuseRefresh: {Value: 401},
			RefuseExpired: {Value: 401}, RefuseThrottled: {Value: 601}, RefuseToken: {Value: 401},
		},
		Definition: provider.Definition{
			Token: provider.Request{Params: set{"action": new("requesttoken")}},
			Response: provider.Response{Envelope: "body", Success: &provider.Match{Path: "status", Is: []string{"0"}},
				ErrorCode: "status", ErrorDetail: "error"},
			Errors: []provider.ErrorRule{
				class(provider.Revoked, "status", "401"), class(provider.BadClient, "status", "342"), class(provider.Throttled, "status", "601"),
			},
		},
	}
}

// Salesforce does not tell when access tokens expire, and lets the oldest of an
// owner's grants go.
func Salesforce() Dialect {
	return Dialect{
		Name: "salesforce", Rotation: provider.RotationFixed, AccessLife: 2 * time.Hour, GrantsPerOwner: 5, Revoke: &Revocation{Open: true},
		Answer: `{"access_token":"{access_token}","refresh_token":"{refresh_token}","scope":"{scope}","instance_url":"{base}",
			"id":"{base}/id/{owner_id}","token_type":"Bearer","issued_at":"{text:issued_at_ms}"}`,
		Codes:      map[Refusal]Code{RefuseRefresh: {Text: "expired access/refresh token"}, RefuseExpired: {Text: "expired access/refresh token"}},
		Definition: provider.Definition{Response: provider.Response{Keep: map[string]string{"instance_url": "instance_url"}}},
	}
}

// Zoho calls it a denial when it is asked too often, and tells the data centre
// in the redirect.
func Zoho() Dialect {
	return Dialect{
		Name: "zoho", Bodies: []provider.Body{provider.BodyForm, provider.BodyQuery}, Rotation: provider.RotationFixed, AccessLife: time.Hour,
		LiveAccessTokens: 15, GrantsPerOwner: 20, TokenRate: provider.Rate{Count: 10, Per: oauth.Lifetime(10 * time.Minute)}, ScopeSeparator: ",",
		Offline: map[string]string{"access_type": "offline"}, Redirect: map[string]string{"accounts-server": "{base}", "location": "eu"},
		Scheme: "Zoho-oauthtoken", Revoke: &Revocation{Open: true},
		Answer: `{"access_token":"{access_token}","refresh_token":"{refresh_token}","scope":"{scope}","api_domain":"{base}","token_type":"Bearer",
			"expires_in":"{expires_in}"}`,
		Failure: `{"error":"{error}"}`,
		Codes:   map[Refusal]Code{RefuseThrottled: {Status: http.StatusBadRequest, Value: "Access Denied"}},
		Definition: provider.Definition{
			Authorize: provider.Authorize{Params: set{"access_type": new("offline")}, Keep: map[string]string{"location": "location"}},
			Errors: []provider.ErrorRule{{Match: provider.Match{Path: "error", Is: []string{"Access Denied"}}, Class: provider.Throttled,
				RetryAfter: oauth.Lifetime(10 * time.Minute)}},
		},
	}
}

// QuickBooks tells a refresh token each time, which now and then is another; the
// one before works until the next change.
func QuickBooks() Dialect {
	return Dialect{
		Name: "quickbooks", ClientAuth: []provider.ClientAuth{provider.AuthBasic}, AccessLife: time.Hour, RefreshIdle: 100 * day, GrantLife: 5 * 365 * day,
		Rotation: provider.RotationFixed, RepeatsFixed: true, ChangeEvery: 3, Redirect: map[string]string{"realmId": "{owner_id}"}, Revoke: &Revocation{},
		Answer: `{"token_type":"bearer","expires_in":"{expires_in}","refresh_token":"{refresh_token}","x_refresh_token_expires_in":"{refresh_expires_in}",
			"access_token":"{access_token}"}`,
		Definition: provider.Definition{
			Authorize: provider.Authorize{Keep: map[string]string{"realm_id": "realmId"}},
			Response:  provider.Response{RefreshEnds: []provider.Expiry{{Path: "x_refresh_token_expires_in"}}},
		},
	}
}

// Meta has no refresh tokens: an access token that lives is exchanged for the
// next.
func Meta() Dialect {
	return Dialect{
		Name: "meta", Bodies: []provider.Body{provider.BodyForm, provider.BodyQuery}, ClientAuth: []provider.ClientAuth{provider.AuthBody},
		DefaultGrant: Inferred, Names: map[string]string{"refresh_token": "fb_exchange_token"}, ScopeSeparator: ",",
		GrantTypes: map[string]string{oauth.GrantAuthorizationCode: oauth.GrantAuthorizationCode, "fb_exchange_token": oauth.GrantRefreshToken},
		AccessLife: 60 * day, Rotation: provider.RotationNone, AccessTokenRefreshes: true,
		Answer:  `{"access_token":"{access_token}","token_type":"bearer","expires_in":"{expires_in}"}`,
		Failure: `{"error":{"message":"{error_description}","type":"OAuthException","code":"{error}"}}`,
		Codes: map[Refusal]Code{
			RefuseRequest: {Value: 100}, RefuseGrantType: {Value: 100}, RefuseClient: {Status: http.StatusBadRequest, Value: 101}, RefuseCode: {Value: 100},
			RefuseRefresh: {Value: 190}, RefuseExpired: {Value: 190}, RefuseToken: {Value: 190},
		},
		Definition: provider.Definition{
			Refresh:  provider.Request{GrantType: "fb_exchange_token", Params: set{"refresh_token": nil, "fb_exchange_token": new("{access_token}")}},
			Response: provider.Response{ErrorCode: "error.code", ErrorDetail: "error.message"},
			Errors: []provider.ErrorRule{
				class(provider.Revoked, "error.code", "190"), class(provider.BadClient, "error.code", "101"),
			},
		},
	}
}

// FOS is FOSOAuthServerBundle with its defaults.
func FOS() Dialect {
	return Dialect{
		Name: "fos", Bodies: []provider.Body{provider.BodyForm, provider.BodyQuery}, FailureStatus: http.StatusBadRequest, TokenLength: 86,
		Grants:     []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		AccessLife: time.Hour, RefreshIdle: 14 * day, Rotation: provider.RotationRotating,
		Answer: `{"access_token":"{access_token}","expires_in":"{expires_in}","token_type":"bearer","scope":"{null:scope}","refresh_token":"{refresh_token}"}`,
		Codes: map[Refusal]Code{
			RefuseGrantType: {Value: oauth.InvalidRequest, Text: "Invalid grant_type parameter or parameter missing"},
			RefuseClient:    {Text: "The client credentials are invalid"}, RefuseScope: {Text: "An unsupported scope was requested."},
			RefuseRefresh: {Text: "Invalid refresh token"}, RefuseExpired: {Text: "Refresh token has expired"},
			RefuseCode:    {Text: "Code doesn't exist or is invalid for the client"},
			RefuseConsent: {Text: "The user denied access to your application"},
			RefuseToken:   {Value: oauth.InvalidGrant, Text: "The access token provided is invalid."},
		},
		Definition: provider.Definition{Authorize: provider.Authorize{PKCE: "none"}},
	}
}

// Bshaffer is oauth2-server-php with its defaults, by which a refresh token can
// be used once and there is no other; without OneShot it rotates.
func Bshaffer() Dialect {
	return Dialect{
		Name: "bshaffer", Bodies: []provider.Body{provider.BodyForm, provider.BodyJSON}, FailureStatus: http.StatusBadRequest, TokenLength: 40,
		Grants:     []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		AccessLife: time.Hour, RefreshIdle: 14 * day, Rotation: provider.RotationRotating, OneShot: true,
		Answer: `{"access_token":"{access_token}","expires_in":"{expires_in}","token_type":"Bearer","scope":"{null:scope}","refresh_token":"{refresh_token}"}`,
		Revoke: &Revocation{Open: true, Single: true, Answer: `{"revoked":true}`},
		Codes: map[Refusal]Code{
			RefuseClient: {Text: "The client credentials are invalid"}, RefuseScope: {Text: "The scope requested is invalid for this request"},
			RefuseRefresh: {Text: "Invalid refresh token"}, RefuseExpired: {Text: "Refresh token has expired"},
			RefuseCode:    {Text: "Authorization code doesn't exist or is invalid for the client"},
			RefuseConsent: {Text: "The user denied access to your application"},
			RefuseToken:   {Text: "The access token provided is invalid"},
		},
	}
}
