package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Bounds of one batch of an import.
const (
	maxImport     = 1000     // of each kind
	maxImportBody = 16 << 20 // bytes
)

// importDocument is a batch of what another server has. Secrets and tokens are in
// clear; it prints without them.
type importDocument struct {
	Source  string          `json:"source"`
	Profile string          `json:"profile"`
	DryRun  bool            `json:"dry_run"`
	Revive  bool            `json:"revive"`
	Clients []foreignClient `json:"clients"`
	Users   []foreignUser   `json:"users"`
	Tokens  []foreignToken  `json:"tokens"`
}

type foreignClient struct {
	ID           string      `json:"id"`
	Name         string      `json:"name"`
	Secret       secret.Text `json:"secret"`
	Verifier     secret.Text `json:"verifier"`
	RedirectURIs []string    `json:"redirect_uris"`
	GrantTypes   []string    `json:"grant_types"`
	Scope        string      `json:"scope"`
	Trusted      bool        `json:"trusted"`
}

type foreignUser struct {
	Username string      `json:"username"`
	Password secret.Text `json:"password"` // its verifier
	Info     rawJSON     `json:"info"`
}

type foreignToken struct {
	Access    bool        `json:"access"`
	Token     secret.Text `json:"token"`
	ClientID  string      `json:"client_id"`
	Subject   string      `json:"subject"`
	Scope     string      `json:"scope"`
	IssuedAt  time.Time   `json:"issued_at"`
	ExpiresAt time.Time   `json:"expires_at"`
}

// rawJSON is a value as it was sent; null is none.
type rawJSON []byte

func (j *rawJSON) UnmarshalJSON(b []byte) error {
	if *j = nil; string(b) != "null" {
		*j = append(*j, b...)
	}
	return nil
}

// importBatch takes a batch over.
func (a *api) importBatch(w http.ResponseWriter, r *http.Request) error {
	var body importDocument
	if err := readUpTo(w, r, maxImportBody, &body); err != nil {
		return err
	}
	for _, of := range []struct {
		field string
		count int
	}{{"clients", len(body.Clients)}, {"users", len(body.Users)}, {"tokens", len(body.Tokens)}} {
		if of.count > maxImport {
			return badRequest(fmt.Sprintf("The field %q has %d items, and %d are the most.", of.field, of.count, maxImport), "send them in several batches")
		}
	}
	in := body.batch()
	in.Registry = &a.registry
	report, err := a.Admin.Import(r.Context(), a.operator(r), in)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

func (d importDocument) batch() issuer.Import {
	in := issuer.Import{Source: d.Source, Profile: d.Profile, DryRun: d.DryRun, Revive: d.Revive}
	for _, c := range d.Clients {
		in.Clients = append(in.Clients, issuer.ImportClient{
			ID: c.ID, Name: c.Name, Secret: c.Secret, Verifier: secret.Verifier(c.Verifier.Reveal()), RedirectURIs: c.RedirectURIs,
			GrantTypes: c.GrantTypes, Scopes: scopeTokens(c.Scope), Trusted: c.Trusted,
		})
	}
	for _, u := range d.Users {
		in.Users = append(in.Users, issuer.ImportUser{Username: u.Username, Password: secret.Verifier(u.Password.Reveal()), Info: u.Info})
	}
	for _, t := range d.Tokens {
		in.Tokens = append(in.Tokens, issuer.ImportToken{
			Access: t.Access, Token: t.Token, ClientID: t.ClientID, Subject: t.Subject, Scope: scopeTokens(t.Scope),
			IssuedAt: t.IssuedAt, ExpiresAt: t.ExpiresAt,
		})
	}
	return in
}

// scopeTokens are those of a scope, each once, whatever their characters: of a
// wrong one the issuer says what it is wrong for.
func scopeTokens(text string) oauth.Scope {
	if scope, err := oauth.ParseScope(text); err == nil {
		return scope
	}
	return strings.Fields(text)
}

// importGone revokes what the other server has no longer.
func (a *api) importGone(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Source   string           `json:"source"`
		ClientID string           `json:"client_id"`
		After    issuer.GrantID   `json:"after"`
		Until    issuer.GrantID   `json:"until"`
		Live     []issuer.GrantID `json:"live"`
		ReadAt   time.Time        `json:"read_at"`
		DryRun   bool             `json:"dry_run"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.ReadAt.IsZero() {
		return badRequest(`The field "read_at" is missing: tokens that came to the other server later are not gone.`,
			"send the time from the answer to a batch that was sent before the other server was read")
	}
	report, err := a.Admin.ImportGone(r.Context(), a.operator(r), issuer.Gone(body))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
