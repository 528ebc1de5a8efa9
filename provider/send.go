package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"

	"github.com/evergrant/evergrant/oauth"
)

// maxAnswer is how much of an answer is read, in bytes. Answers with tokens of
// 16 KB and long lists of accounts are known; more than this is no token answer.
const maxAnswer = 32 << 20

// Send makes one request, or for a re-mint its steps, and returns the answer
// whatever it says. Nothing is retried, no redirect is followed, and connections
// are not reused, so that net/http does not send a request twice by itself. The
// error is an *[Error]: NotSent where no byte left, otherwise Unknown. For a
// re-mint, an answer other than success ends the steps and is returned.
//
// It takes no longer than p.Timeout. Proxies that the environment names are not
// used, since what they resolve and connect to cannot be checked.
func (p *Provider) Send(ctx context.Context, call Call) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout())
	defer cancel()
	d, v := &p.cfg.Definition, p.values(call)
	switch call.Kind {
	case Exchange:
		return p.sendGrant(ctx, call.Kind, d.Exchange.over(d.Token), oauth.GrantAuthorizationCode, v)
	case Refresh:
		return p.sendGrant(ctx, call.Kind, d.Refresh.over(d.Token), oauth.GrantRefreshToken, v)
	case ClientCredentials:
		return p.sendGrant(ctx, call.Kind, d.ClientCredentials.over(d.Token), oauth.GrantClientCredentials, v)
	case Reminting:
		return p.remint(ctx, v)
	}
	return Answer{}, unwritten(fmt.Errorf("%q is no kind of request", call.Kind))
}

// sendGrant sends a token request for a grant.
func (p *Provider) sendGrant(ctx context.Context, kind Kind, r Request, grant string, v values) (Answer, error) {
	if r.GrantType == "" {
		r.GrantType = grant
	}
	if r.URL == "" {
		r.URL = p.cfg.Definition.TokenURL
	}
	if r.URL == "" {
		found, err := p.discover(ctx, v)
		if err != nil {
			return Answer{}, err
		}
		r.URL, r.ClientAuth = found.TokenEndpoint, cmp.Or(r.ClientAuth, preferred(found.TokenEndpointAuthMethods))
	}
	r.ClientAuth = cmp.Or(r.ClientAuth, AuthBody)
	return p.send(ctx, kind, r, standard(grant), v)
}

// remint takes the steps of a re-mint.
func (p *Provider) remint(ctx context.Context, v values) (answer Answer, err error) {
	steps := p.cfg.Definition.Remint.Steps
	if len(steps) == 0 {
		return Answer{}, unwritten(errors.New("the definition has no steps of a re-mint"))
	}
	for i, step := range steps {
		v["uuid"] = uuid()
		if answer, err = p.step(ctx, step, v); err != nil {
			if failure, ok := errors.AsType[*Error](err); ok && i > 0 && failure.Outcome == NotSent {
				failure.Class, failure.Outcome = Ambiguous, Unknown // the steps before it were sent
			}
			return Answer{}, err
		}
		if i == len(steps)-1 || answer.Status/100 != 2 {
			break
		}
		doc := parse(answer.Body, answer.Cut)
		for name, path := range step.Save {
			saved := text(find(doc.root, path))
			if saved != "" {
				v["saved."+name] = saved
				continue
			}
			if _, err := p.Read(answer); err != nil {
				return answer, nil // it says itself what is wrong
			}
			// Its tokens are for the next step, and not the connection's.
			return Answer{}, &Error{Class: BadDefinition, Outcome: Unknown, Status: answer.Status,
				Detail: clean(fmt.Sprintf("the answer to step %d of the re-mint has no %s", i+1, path))}
		}
	}
	return answer, nil
}

// step takes one step of a re-mint.
func (p *Provider) step(ctx context.Context, step Step, v values) (Answer, error) {
	common := p.cfg.Definition.Token
	if step.GrantType != "" {
		return p.sendGrant(ctx, Reminting, step.Request.over(common), step.GrantType, v)
	}
	common.Params, common.ClientAuth, common.GrantType = nil, AuthNone, ""
	return p.sendGrant(ctx, Reminting, step.Request.over(common), "", v)
}

// send writes a request and sends it.
func (p *Provider) send(ctx context.Context, kind Kind, r Request, standard map[string]*string, v values) (Answer, error) {
	req, err := p.request(ctx, r, standard, v)
	if err != nil {
		return Answer{}, err
	}
	secrets := v.secrets()
	answer, err := p.roundTrip(req, maxAnswer, secrets)
	if err != nil {
		return Answer{}, err
	}
	answer.Kind, answer.Sent = kind, secrets
	return answer, nil
}

// roundTrip sends a request once and reads its answer, at most limit bytes of
// its body. The error is an *Error. The transport tells when it has a
// connection: what happens before that happens before the first byte.
func (p *Provider) roundTrip(req *http.Request, limit int64, secrets []string) (Answer, error) {
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	ctx := httptrace.WithClientTrace(req.Context(), trace)
	if err := ctx.Err(); err != nil {
		return Answer{}, &Error{Class: Transient, Outcome: NotSent, Detail: err.Error()}
	}
	answer := Answer{SentAt: p.cfg.Now()}
	resp, err := p.once.RoundTrip(req.WithContext(ctx))
	if err != nil {
		failure := &Error{Class: Transient, Outcome: NotSent, Detail: p.clean(err.Error(), secrets)}
		if connected {
			failure.Class, failure.Outcome = Ambiguous, Unknown
		}
		return Answer{}, failure
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	answer.Status = resp.StatusCode
	answer.ContentType = clean(resp.Header.Get("Content-Type"))
	answer.RetryAfter = clean(resp.Header.Get("Retry-After"))
	answer.Date = clean(resp.Header.Get("Date"))
	answer.Cut = err != nil || int64(len(body)) > limit
	answer.Body = body[:min(int64(len(body)), limit)]
	return answer, nil
}
