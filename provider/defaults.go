package provider

import (
	"cmp"
	"maps"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// fill puts the defaults into a definition.
func (d *Definition) fill() {
	d.Title = cmp.Or(d.Title, d.Name)
	d.Grant = cmp.Or(d.Grant, oauth.GrantAuthorizationCode)
	d.Params = maps.Clone(d.Params)
	for name, param := range d.Params {
		param.Title, param.Pattern = cmp.Or(param.Title, name), cmp.Or(param.Pattern, defaultPattern)
		d.Params[name] = param
	}
	d.Authorize.ScopeSeparator = cmp.Or(d.Authorize.ScopeSeparator, " ")
	d.Authorize.PKCE = cmp.Or(d.Authorize.PKCE, oauth.S256)
	d.Token.Method = cmp.Or(d.Token.Method, http.MethodPost)
	d.Token.Body = cmp.Or(d.Token.Body, BodyForm)
	if d.TokenURL != "" { // otherwise the issuer says it
		d.Token.ClientAuth = cmp.Or(d.Token.ClientAuth, AuthBody)
	}
	d.Response.fill()
	d.RefreshToken.Rotation = cmp.Or(d.RefreshToken.Rotation, RotationSingleUse)
	d.API.Authorization = cmp.Or(d.API.Authorization, "Bearer {access_token}")
	d.Limits.Concurrency = cmp.Or(d.Limits.Concurrency, 8)
	d.Limits.Rate = cmp.Or(d.Limits.Rate, Rate{Count: 20, Per: oauth.Lifetime(time.Second)})
	d.Limits.Timeout = cmp.Or(d.Limits.Timeout, oauth.Lifetime(defaultTimeout))
}

func (r *Response) fill() {
	r.AccessToken = cmp.Or(r.AccessToken, "access_token")
	r.RefreshToken = cmp.Or(r.RefreshToken, "refresh_token")
	r.TokenType = cmp.Or(r.TokenType, "token_type")
	r.Scope = cmp.Or(r.Scope, "scope")
	r.ErrorCode = cmp.Or(r.ErrorCode, "error")
	r.ErrorDetail = cmp.Or(r.ErrorDetail, "error_description")
	if r.Expires == nil {
		r.Expires = []Expiry{{Path: "expires_in"}, {Path: "expires_at", Form: FormAuto}}
	}
	if r.RefreshEnds == nil {
		r.RefreshEnds = []Expiry{{Path: "refresh_token_expires_in"}, {Path: "refresh_token_expires_at", Form: FormAuto}}
	}
}
