package provider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// APIRequest prepares a request to the provider's API: its URL below the
// definition's base URL, and its headers with the token. path is as in a URL,
// and may have a query; r's own query is added to it. The error is an *[Error].
func (p *Provider) APIRequest(r *http.Request, path string, call Call) error {
	d, v := &p.cfg.Definition.API, p.values(call)
	if d.BaseURL == "" {
		return unwritten(errors.New("the definition has no api.base_url"))
	}
	base, err := v.renderURL(d.BaseURL)
	if err == nil {
		err = p.permitted(base)
	}
	if err == nil {
		err = below(base, path)
	}
	if err != nil {
		return unwritten(err)
	}
	header := http.Header{}
	for name, template := range d.Headers {
		value, err := v.render(template)
		if err != nil {
			return unwritten(err)
		}
		header.Set(name, value)
	}
	authorization, err := v.render(d.Authorization)
	if err != nil {
		return unwritten(err)
	}
	header.Set("Authorization", authorization)
	if r.Header == nil {
		r.Header = http.Header{}
	}
	for name, values := range header {
		if r.Header.Del(name); values[0] != "" {
			r.Header[name] = values
		}
	}
	if r.URL != nil {
		base.RawQuery = strings.Trim(base.RawQuery+"&"+r.URL.RawQuery, "&")
	}
	r.URL, r.Host, r.RequestURI = base, "", ""
	return nil
}

// below adds a path to a URL, out of which it must not lead.
func below(base *url.URL, path string) error {
	path, query, _ := strings.Cut(path, "?")
	plain, err := url.PathUnescape(path)
	if err != nil || strings.Contains(plain, `\`) {
		return errors.New("the path of the call cannot be read; escape it as in a URL")
	}
	for segment := range strings.SplitSeq(plain, "/") {
		if segment == "." || segment == ".." {
			return errors.New("the path of the call has dots that lead out of the provider's API")
		}
	}
	base.RawQuery = strings.Trim(base.RawQuery+"&"+query, "&")
	if path == "" {
		return nil
	}
	raw := strings.TrimSuffix(base.EscapedPath(), "/") + "/" + strings.TrimPrefix(path, "/")
	base.RawPath = raw
	base.Path, _ = url.PathUnescape(raw) // both parts have been read
	return nil
}

// Transport sends requests to the provider's API under the same guard against
// private networks as token requests, reusing connections.
func (p *Provider) Transport() http.RoundTripper { return guarded{p} }

// guarded holds requests to what is permitted. The dialing holds the addresses.
type guarded struct{ p *Provider }

// RoundTrip sends a request if it is permitted.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.p.permitted(r.URL); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, unwritten(err)
	}
	return g.p.api.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (g guarded) CloseIdleConnections() { g.p.api.CloseIdleConnections() }

// Alive asks the provider's API whether an access token is alive, by the
// definition's check. known is false where there is no check or its answer says
// neither.
func (p *Provider) Alive(ctx context.Context, call Call) (alive, known bool) {
	check := p.cfg.Definition.API.Check
	if check == "" || call.AccessToken.Empty() {
		return false, false
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout())
	defer cancel()
	r := (&http.Request{Method: http.MethodGet, Header: http.Header{"User-Agent": {userAgent}, "Accept": {"application/json"}}}).WithContext(ctx)
	if err := p.APIRequest(r, check, call); err != nil {
		return false, false
	}
	resp, err := p.Transport().RoundTrip(r)
	if err != nil {
		return false, false
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, 1<<20) // so that the connection can be used again
	alive = resp.StatusCode/100 == 2
	return alive, alive || resp.StatusCode == http.StatusUnauthorized
}
