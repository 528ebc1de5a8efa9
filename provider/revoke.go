package provider

import (
	"cmp"
	"context"
	"errors"

	"github.com/evergrant/evergrant/oauth"
)

// ErrCannotRevoke says that the provider has no revocation endpoint.
var ErrCannotRevoke = errors.New("provider: there is no revocation endpoint")

// Revoke revokes a grant at the provider (RFC 7009, or as the definition says).
// ErrCannotRevoke where it has no such endpoint, and otherwise an *[Error]. A
// token that is not valid any more is as good as revoked.
func (p *Provider) Revoke(ctx context.Context, call Call) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout())
	defer cancel()
	d, v := &p.cfg.Definition, p.values(call)
	common := d.Token
	common.URL, common.GrantType = d.RevokeURL, ""
	r := d.Revoke.over(common)
	if r.URL == "" && d.Issuer != "" {
		found, err := p.discover(ctx, v)
		if err != nil {
			return err
		}
		methods := found.RevocationEndpointAuthMethods
		if methods == nil {
			methods = found.TokenEndpointAuthMethods
		}
		r.URL, r.ClientAuth = found.RevocationEndpoint, cmp.Or(r.ClientAuth, preferred(methods))
	}
	if r.URL == "" {
		return ErrCannotRevoke
	}
	r.ClientAuth = cmp.Or(r.ClientAuth, AuthBody)
	hint := oauth.HintRefreshToken
	if call.RefreshToken.Empty() {
		hint = oauth.HintAccessToken
	}
	answer, err := p.send(ctx, "", r, map[string]*string{"token": new("{refresh_token|access_token}"), "token_type_hint": &hint}, v)
	if err != nil {
		return err
	}
	return p.readRevocation(answer)
}

// readRevocation reads the answer of a revocation.
func (p *Provider) readRevocation(answer Answer) error {
	doc := parse(answer.Body, answer.Cut)
	code, _ := p.errorOf(doc)
	if answer.Status/100 == 2 && !p.saysError(doc, code) {
		return nil
	}
	e := p.refusal(answer, doc)
	if e.Class == Revoked || e.Class == RefreshTokenExpired || code == oauth.InvalidToken {
		return nil
	}
	return e
}
