package provider

import (
	"strings"
	"time"
)

// defaultTimeout bounds a whole request. Providers have been seen to answer
// after 14 s.
const defaultTimeout = 30 * time.Second

// Timeout is how long a whole request may take.
func (p *Provider) Timeout() time.Duration {
	if set := time.Duration(p.cfg.Definition.Limits.Timeout); set > 0 {
		return set
	}
	return defaultTimeout
}

// SendsRefreshToken reports whether a refresh sends the refresh token, and not
// the access token alone.
func (p *Provider) SendsRefreshToken() bool {
	def := &p.cfg.Definition
	merged := map[string]*string{}
	for _, params := range []map[string]*string{{"refresh_token": new("{refresh_token}")}, def.Token.Params, def.Refresh.Params} {
		for name, template := range params {
			merged[name] = template
		}
	}
	for _, template := range merged {
		if template != nil && strings.Contains(*template, "refresh_token") {
			return true
		}
	}
	return false
}
