package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// api compares a call of the API. Where the definition has a check, it is that.
func (c *conformance) api(ctx context.Context) {
	written := c.transcript.API
	switch base := c.definition.API.BaseURL; {
	case written == "" && base == "":
		return
	case written == "" || base == "":
		c.differ("api", "there is one in the transcript or in the definition alone")
		return
	case c.definition.API.Check != "":
		c.check(ctx)
		return
	}
	r := &http.Request{Method: http.MethodGet}
	err := c.original.APIRequest(r, "", c.call(""))
	if err != nil {
		c.differ("api", "%v", err)
		return
	}
	first, _, _ := split(written)
	_, target, _ := strings.Cut(c.words.in(first), " ")
	path, below := strings.CutPrefix(target, r.URL.String())
	if !below {
		c.differ("api", "%s is not below %s", target, r.URL)
		return
	}
	if err := c.original.APIRequest(r, path, c.call("")); err != nil {
		c.differ("api", "%v", err)
		return
	}
	address, _, _ := strings.Cut(r.URL.String(), "?")
	for _, text := range c.words.differences(heard{method: r.Method, url: address, query: r.URL.Query(), header: r.Header}, written) {
		c.differ("api", "%s", text)
	}
}

// check compares the call by which a dead access token is told from a live one.
func (c *conformance) check(ctx context.Context) {
	for status, want := range map[int][2]bool{http.StatusOK: {true, true}, http.StatusUnauthorized: {false, true}, http.StatusForbidden: {false, false}} {
		c.replying(reply{answer: content(status, "application/json", []byte("{}"))})
		alive, known := c.provider.Alive(ctx, c.call(""))
		if got := [2]bool{alive, known}; got != want {
			c.differ("api.check", "an answer with status %d is read as %v, not %v", status, got, want)
		}
	}
	got := c.requests()
	if len(got) != 1 {
		c.differ("api.check", "%d requests were sent", len(got))
		return
	}
	for _, text := range c.words.differences(got[0], c.transcript.API) {
		c.differ("api.check", "%s", text)
	}
}

// renewal is the call by which tokens are kept fresh, or else the first one.
func (c *conformance) renewal() (provider.Kind, *Turn) {
	if c.transcript.Refresh != nil {
		return provider.Refresh, c.transcript.Refresh
	}
	return provider.Exchange, c.transcript.Exchange
}

// failed makes a call that must fail, and compares how.
func (c *conformance) failed(ctx context.Context, where string, kind provider.Kind, with reply, want provider.Error) {
	c.replying(with)
	answer, err := c.provider.Send(ctx, c.call(kind))
	if err == nil {
		_, err = c.provider.Read(answer)
	}
	got, ok := errors.AsType[*provider.Error](err)
	if !ok || got.Class != want.Class || got.Outcome != want.Outcome || got.RetryAfter != want.RetryAfter || want.Code != "" && got.Code != want.Code {
		c.differ(where, "it is %v, wait %v; want %v, wait %v", err, wait(got), &want, want.RetryAfter)
	}
}

func wait(e *provider.Error) time.Duration {
	if e == nil {
		return 0
	}
	return e.RetryAfter
}

// failures gives the answers of the transcript that are errors.
func (c *conformance) failures(ctx context.Context) {
	kind, _ := c.renewal()
	for _, f := range c.transcript.Errors {
		want := provider.Error{Class: f.Class, Outcome: provider.Refused, Code: f.Code, RetryAfter: max(0, time.Duration(f.Wait))}
		if f.Class == provider.Ambiguous {
			want.Outcome = provider.Unknown
		}
		c.failed(ctx, fmt.Sprintf("error %d %s", f.Status, f.Body), kind, reply{answer: content(f.Status, "application/json", []byte(f.Body))}, want)
	}
}

// faults loses answers, breaks them off, and puts gateways, firewalls and
// throttles before the provider, none of which the definition may mistake for
// the provider's own word.
func (c *conformance) faults(ctx context.Context) {
	kind, turn := c.renewal()
	if turn == nil {
		return
	}
	says, err := c.words.saying(turn.Answer)
	if err != nil {
		return // told already
	}
	rotation := c.original.Definition().RefreshToken.Rotation
	gateway := provider.Error{Class: provider.Ambiguous}
	if kind == provider.Refresh && (rotation == provider.RotationFixed || rotation == provider.RotationNone) {
		gateway.Class = provider.Transient
	}
	page := func(status int, f Fault) reply { return reply{answer{status: status}, f} }
	c.failed(ctx, "lost answer", kind, reply{says, DropAfter()}, provider.Error{Class: provider.Ambiguous})
	c.failed(ctx, "gateway", kind, page(http.StatusOK, BadGateway()), gateway)
	c.failed(ctx, "firewall", kind, page(http.StatusOK, Page(http.StatusForbidden)), provider.Error{Class: provider.Transient, Outcome: provider.Refused})
	c.failed(ctx, "page with status 200", kind, page(http.StatusOK, Page(http.StatusOK)), provider.Error{Class: provider.BadDefinition})
	c.failed(ctx, "throttle", kind, page(http.StatusOK, Unavailable(http.StatusTooManyRequests, "7")),
		provider.Error{Class: provider.Throttled, Outcome: provider.Refused, RetryAfter: 7 * time.Second})

	end := len(strings.TrimRight(string(says.body), "]} \n"))
	c.replying(reply{says, Cut(end)})
	answer, err := c.provider.Send(ctx, c.call(kind))
	if err != nil {
		c.differ("broken answer", "%v", err)
		return
	}
	tokens, err := c.provider.Read(answer)
	if err != nil || !tokens.Salvaged || tokens.AccessToken.Reveal() != c.words["A"] {
		c.differ("broken answer", "its tokens are not taken: %v", err)
	}
}

// needed holds that each error rule decides one of the transcript's errors.
func (c *conformance) needed() {
	kind, _ := c.renewal()
	for i := range c.definition.Errors {
		less := c.definition
		less.Errors = slices.Delete(slices.Clone(less.Errors), i, i+1)
		without, err := c.register(less, nil)
		if err != nil {
			c.differ("errors", "%v", err)
			return
		}
		if !slices.ContainsFunc(c.transcript.Errors, func(f Failure) bool {
			answer := provider.Answer{Status: f.Status, Body: []byte(f.Body), Kind: kind, SentAt: began}
			_, is := c.original.Read(answer)
			_, would := without.Read(answer)
			return fmt.Sprint(is) != fmt.Sprint(would) || wait(of(is)) != wait(of(would))
		}) {
			c.differ(fmt.Sprintf("errors.%d", i), "no error of the transcript needs this rule")
		}
	}
}

func of(err error) *provider.Error {
	e, _ := errors.AsType[*provider.Error](err)
	return e
}
