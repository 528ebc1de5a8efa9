package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// providerDocument is a registration at a provider as the API shows it.
type providerDocument struct {
	Name       string                   `json:"name"`
	Definition string                   `json:"definition"`
	Title      string                   `json:"title"`
	Docs       string                   `json:"docs,omitempty"`
	NeedsOwner bool                     `json:"needs_owner"` // connections begin with the owner's consent
	Scopes     oauth.Scope              `json:"scopes,omitempty"`
	Params     map[string]paramDocument `json:"params,omitempty"`
	API        string                   `json:"api_base_url,omitempty"` // below which the proxy calls

	Rotation            provider.Rotation `json:"refresh_token_rotation"`
	ReplayWindow        oauth.Lifetime    `json:"replay_window,omitzero"`
	Remints             bool              `json:"remints"` // gets new tokens without owner and refresh token
	AccessTokenLifetime oauth.Lifetime    `json:"access_token_lifetime,omitzero"`
	RefreshTokenIdle    oauth.Lifetime    `json:"refresh_token_idle_lifetime,omitzero"`
	GrantLifetime       oauth.Lifetime    `json:"grant_lifetime,omitzero"`

	State       string                  `json:"state"` // up, down, bad_client or bad_definition
	Since       time.Time               `json:"since,omitzero"`
	Detail      string                  `json:"detail,omitempty"`
	Connections map[keeper.State]int    `json:"connections"`
	Facts       map[string]factDocument `json:"facts,omitempty"` // shown for one provider only
}

// paramDocument is a value that differs between connections.
type paramDocument struct {
	Title   string `json:"title,omitempty"`
	Pattern string `json:"pattern,omitempty"`
	Default string `json:"default,omitempty"`
	From    string `json:"from,omitempty"` // where the provider tells it
}

// factDocument says how a behaviour is known.
type factDocument struct {
	Known  string `json:"known"`
	Source string `json:"source"`
	Note   string `json:"note,omitempty"`
}

func (c APIConfig) provider(name string) (*provider.Provider, bool) {
	i := slices.IndexFunc(c.Providers, func(p *provider.Provider) bool { return p.Name() == name })
	if i < 0 {
		return nil, false
	}
	return c.Providers[i], true
}

// titleOf is the name of a provider for people.
func (c APIConfig) titleOf(name string) string {
	if p, ok := c.provider(name); ok && p.Definition().Title != "" {
		return p.Definition().Title
	}
	return name
}

// listProviders lists all, by name; there are as many as an operator wrote down.
func (a *api) listProviders(w http.ResponseWriter, r *http.Request) error {
	if _, err := readListing(r); err != nil {
		return err
	}
	items, err := a.providerDocuments(r.Context(), callerOf(r).tenant())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"items": items})
}

func (a *api) showProvider(w http.ResponseWriter, r *http.Request) error {
	p, ok := a.provider(r.PathValue("name"))
	if !ok {
		return keeper.ErrNotFound
	}
	all, err := a.providerDocuments(r.Context(), callerOf(r).tenant())
	if err != nil {
		return err
	}
	document := all[slices.IndexFunc(all, func(d providerDocument) bool { return d.Name == p.Name() })]
	document.Facts = map[string]factDocument{}
	for path, fact := range p.Definition().Facts {
		document.Facts[path] = factDocument(fact)
	}
	return writeJSON(w, http.StatusOK, document)
}

// providerDocuments are all providers, by name. The numbers of connections are
// those of all tenants, and so for the operator only.
func (c APIConfig) providerDocuments(ctx context.Context, tenant *string) ([]providerDocument, error) {
	counts := map[string]map[keeper.State]int{}
	if tenant == nil {
		var err error
		if counts, err = c.Connections.Counts(ctx); err != nil {
			return nil, err
		}
	}
	documents := []providerDocument{}
	for _, p := range c.Providers {
		document := describe(p)
		document.Connections = counts[p.Name()]
		if err := c.health(ctx, &document); err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	slices.SortFunc(documents, func(x, y providerDocument) int { return strings.Compare(x.Name, y.Name) })
	return documents, nil
}

// describe is a provider by its definition.
func describe(p *provider.Provider) providerDocument {
	d := p.Definition()
	document := providerDocument{
		Name: p.Name(), Definition: d.Name, Title: d.Title, Docs: d.Docs, NeedsOwner: needsOwner(d), Scopes: p.Scopes(), API: d.API.BaseURL,
		Rotation: d.RefreshToken.Rotation, ReplayWindow: d.RefreshToken.ReplayWindow, Remints: len(d.Remint.Steps) > 0,
		AccessTokenLifetime: d.AccessToken.Lifetime, RefreshTokenIdle: d.RefreshToken.IdleLifetime, GrantLifetime: d.RefreshToken.Lifetime,
		State: "up",
	}
	if document.Title == "" {
		document.Title = p.Name()
	}
	for name, param := range d.Params {
		if document.Params == nil {
			document.Params = map[string]paramDocument{}
		}
		document.Params[name] = paramDocument(param)
	}
	return document
}

// needsOwner reports whether a connection begins with somebody's consent.
func needsOwner(d *provider.Definition) bool {
	return d.Grant == "" || d.Grant == oauth.GrantAuthorizationCode
}

// health adds how the provider is, by its newest alarm or end of one among its
// newest events.
func (c APIConfig) health(ctx context.Context, document *providerDocument) error {
	events, err := c.Events.Events(ctx, keeper.EventFilter{Provider: document.Name, Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range events {
		state, alarm := strings.CutPrefix(e.Type, "provider.")
		if alarm {
			document.State, document.Since, document.Detail = state, e.At, e.Detail
			return nil
		}
	}
	return nil
}
