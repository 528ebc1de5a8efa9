package web

import (
	"context"
	"net/http"
	"slices"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
)

// The scopes of the keeper's API. The admin token may do all.
const (
	ScopeRead  = "keeper:read"  // lists, history, events, providers
	ScopeToken = "keeper:token" // access tokens, and calls of providers' APIs with them
	ScopeWrite = "keeper:write" // making, repairing, pausing and deleting connections
)

// Scopes are the scopes of the keeper's API with the words that describe them,
// for issuer.Config.Reserved.
func Scopes() map[string]string {
	return map[string]string{
		ScopeRead:  "See the connections to other services",
		ScopeToken: "Use the connections to other services",
		ScopeWrite: "Make, change and delete connections to other services",
	}
}

// caller is who sends a request to the API: the operator, or a client.
type caller struct {
	operator bool
	client   issuer.Client
	scope    oauth.Scope
}

type callerKey struct{}

// callerOf is who sent a request that authorized let pass.
func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c
}

// may reports whether the caller may do what needs a scope. What needs none is
// the operator's.
func (c caller) may(scope string) bool {
	return c.operator || scope != "" && slices.Contains(c.scope, scope)
}

// tenant is whose connections the caller sees: nil for all.
func (c caller) tenant() *string {
	if c.operator {
		return nil
	}
	return &c.client.Tenant
}

// sees reports whether the caller sees what belongs to a tenant.
func (c caller) sees(tenant string) bool { return c.operator || c.client.Tenant == tenant }

// choose is the tenant that a request is about, nil for all: the operator names
// one or none, and a client can only name its own.
func (c caller) choose(named string) (*string, error) {
	switch {
	case named == "" || !c.operator && named == c.client.Tenant:
		return c.tenant(), nil
	case c.operator:
		return &named, nil
	}
	return nil, refuse(http.StatusForbidden, "The client belongs to another tenant than the one that is named.", "leave the tenant out")
}

// actor is the caller as the log of events names it.
func (c caller) actor(address string) keeper.Actor {
	if c.operator {
		return keeper.Actor{Name: "operator", Address: address}
	}
	return keeper.Actor{Name: "client:" + c.client.ID, Address: address}
}

// authorized serves requests with the admin token, or with an access token of a
// client that is registered for the keeper's scopes (RFC 6750 section 2.1).
func (a *api) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		token, given := oauth.BearerToken(r.Header.Get("Authorization"))
		who, err := a.caller(r.Context(), token)
		switch {
		case err != nil:
			a.fail(w, r, err)
		case !given || !who.operator && who.client.ID == "":
			a.Log.WarnContext(r.Context(), "request refused: no or wrong token", "address", a.Address(r))
			challenge := "Bearer"
			if given {
				challenge = `Bearer error="invalid_token"` // RFC 6750 section 3.1
			}
			w.Header().Set("WWW-Authenticate", challenge)
			writeProblem(w, refuse(http.StatusUnauthorized, "The request needs the admin token, or an access token of this server with a scope of the keeper.",
				"send Authorization: Bearer and the token that the server keeps in its data directory as admin.token"))
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
		}
	})
}

// caller is whose a token is; nobody's where it is no good. Only scopes that the
// client is still registered for count.
func (a *api) caller(ctx context.Context, token string) (caller, error) {
	if !a.Token.Empty() && a.Token.Equal(token) {
		return caller{operator: true}, nil
	}
	if a.Inspect == nil || token == "" {
		return caller{}, nil
	}
	seen, client, err := a.Inspect(ctx, token)
	if err != nil || !seen.Active {
		return caller{}, err
	}
	who := caller{client: client}
	granted, _ := oauth.ParseScope(seen.Scope) // it was written by us
	for _, scope := range granted {
		if _, ours := Scopes()[scope]; ours && slices.Contains(client.Scopes, scope) && !client.Public() {
			who.scope = append(who.scope, scope)
		}
	}
	return who, nil
}

// insufficient refuses a caller without a scope, or without the admin token (RFC
// 6750 section 3.1).
func insufficient(w http.ResponseWriter, scope string) *problem {
	if scope == "" {
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		return refuse(http.StatusForbidden, "Only the operator may do this.", "use the admin token")
	}
	w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	return refuse(http.StatusForbidden, "The access token does not have the scope "+scope+".", "list "+scope+" among the client's scopes, and ask for it when you get the token")
}

// operator is the operator who administers by a request.
func (a *api) operator(r *http.Request) issuer.Actor {
	return issuer.Actor{Name: "operator", Address: a.Address(r)}
}
