package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

const (
	// maxMetadata bounds a metadata document, in bytes.
	maxMetadata = 1 << 20
	// metadataAge is how long one is used before it is looked at again.
	metadataAge = 24 * time.Hour
	// maxIssuers bounds how many are remembered, where the issuer has params.
	maxIssuers = 1000
)

var errNoEndpoint = errors.New("neither the definition nor its issuer names this endpoint")

// discovery remembers the metadata of issuers. One request at a time looks for
// it; the others wait.
type discovery struct {
	turn  chan struct{} // holds an element while a request is out
	mu    sync.Mutex
	found map[string]*discovered // by issuer
}

type discovered struct {
	oauth.Metadata
	at time.Time
}

func (d *discovery) get(issuer string) *discovered {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found[issuer]
}

func (d *discovery) put(issuer string, found *discovered) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.found) >= maxIssuers {
		clear(d.found)
	}
	d.found[issuer] = found
}

// discover gives the metadata of the definition's issuer (RFC 8414, OpenID
// Connect Discovery). Metadata that has grown old is used on where the issuer
// does not answer. The error is an *Error, NotSent: nothing has been sent that
// could have changed anything.
func (p *Provider) discover(ctx context.Context, v values) (*discovered, error) {
	if p.cfg.Definition.Issuer == "" {
		return nil, unwritten(errNoEndpoint)
	}
	issuer, err := v.renderURL(p.cfg.Definition.Issuer)
	if err != nil {
		return nil, unwritten(err)
	}
	fresh := func() *discovered {
		if found := p.discovery.get(issuer.String()); found != nil && p.cfg.Now().Sub(found.at) < metadataAge {
			return found
		}
		return nil
	}
	if found := fresh(); found != nil {
		return found, nil
	}
	select {
	case p.discovery.turn <- struct{}{}:
		defer func() { <-p.discovery.turn }()
	case <-ctx.Done():
		return nil, &Error{Class: Transient, Outcome: NotSent, Detail: ctx.Err().Error()}
	}
	if found := fresh(); found != nil {
		return found, nil
	}
	found, err := p.fetchMetadata(ctx, issuer)
	if err == nil {
		p.discovery.put(issuer.String(), found)
	} else if old := p.discovery.get(issuer.String()); old != nil {
		return old, nil
	}
	return found, err
}

// fetchMetadata asks at the places where an issuer's metadata can be.
func (p *Provider) fetchMetadata(ctx context.Context, issuer *url.URL) (*discovered, error) {
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	origin := issuer.Scheme + "://" + issuer.Host
	var failure *Error
	for _, place := range []string{
		origin + "/.well-known/oauth-authorization-server" + path, // RFC 8414 section 3.1
		origin + path + "/.well-known/openid-configuration",       // OpenID Connect Discovery section 4.1
	} {
		req, err := p.request(ctx, Request{URL: place, Method: http.MethodGet, ClientAuth: AuthNone}, map[string]*string{}, values{})
		if err != nil {
			return nil, err
		}
		answer, err := p.roundTrip(req, maxMetadata, nil)
		if err != nil {
			return nil, undiscovered(Transient, issuer, err.Error())
		}
		found, fault := p.readMetadata(answer, issuer)
		if fault == nil {
			return found, nil
		}
		if failure == nil || failure.Class != Transient {
			failure = fault
		}
	}
	return nil, failure
}

func undiscovered(class Class, issuer *url.URL, why string) *Error {
	return &Error{Class: class, Outcome: NotSent, Detail: clean("no metadata of " + issuer.String() + ": " + why)}
}

// readMetadata reads a metadata document, which must be of the issuer that was
// asked for (RFC 8414 section 3.3).
func (p *Provider) readMetadata(answer Answer, issuer *url.URL) (*discovered, *Error) {
	found := &discovered{at: answer.SentAt}
	if class := Transient; answer.Status != http.StatusOK {
		if answer.Status/100 < 5 && answer.Status != http.StatusTooManyRequests {
			class = BadDefinition
		}
		return nil, undiscovered(class, issuer, fmt.Sprintf("status %d", answer.Status))
	}
	if err := json.Unmarshal(answer.Body, &found.Metadata); err != nil {
		return nil, undiscovered(BadDefinition, issuer, "what is there is not its metadata")
	}
	if found.Issuer != issuer.String() {
		return nil, undiscovered(BadDefinition, issuer, "it is of "+found.Issuer+"; write the issuer exactly so if it is the right one")
	}
	for _, endpoint := range []string{found.AuthorizationEndpoint, found.TokenEndpoint, found.RevocationEndpoint} {
		if u, err := (values{}).renderURL(endpoint); endpoint != "" && (err != nil || p.permitted(u) != nil) {
			return nil, undiscovered(BadDefinition, issuer, endpoint+" is not an https URL")
		}
	}
	return found, nil
}

// preferred is the way of client authentication for what an issuer announces,
// which means Basic if it announces nothing (RFC 8414 section 2).
func preferred(announced []string) ClientAuth {
	if slices.Contains(announced, oauth.AuthPost) && !slices.Contains(announced, oauth.AuthBasic) {
		return AuthBody
	}
	return AuthBasic
}
