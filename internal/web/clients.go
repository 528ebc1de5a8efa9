package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// clientDocument is a client as the API shows it: how many secrets it has, and
// none of their verifiers.
type clientDocument struct {
	ID           string      `json:"id"`
	Name         string      `json:"name,omitempty"`
	Public       bool        `json:"public"`
	Secrets      int         `json:"secrets"`
	SecretForms  []string    `json:"secret_forms"` // what is kept of each secret, newest first, such as argon2id
	RedirectURIs []string    `json:"redirect_uris"`
	GrantTypes   []string    `json:"grant_types"`
	Scopes       oauth.Scope `json:"scopes"`
	Introspect   bool        `json:"introspect"`
	Trusted      bool        `json:"trusted"`
	Tenant       string      `json:"tenant,omitempty"` // whose connections its tokens reach
	Profile      string      `json:"profile,omitempty"`
	issuer.Policy
	ImportedFrom string    `json:"imported_from,omitempty"` // the source of an import, where nobody has changed it since
	Declared     bool      `json:"declared"`
	CreatedAt    time.Time `json:"created_at,omitzero"`
	UpdatedAt    time.Time `json:"updated_at,omitzero"`
}

func showClient(c issuer.Client) clientDocument {
	return clientDocument{
		ID: c.ID, Name: c.Name, Public: c.Public(), Secrets: len(c.Secrets), SecretForms: secretForms(c.Secrets),
		RedirectURIs: append([]string{}, c.RedirectURIs...),
		GrantTypes:   append([]string{}, c.GrantTypes...),
		Scopes:       append(oauth.Scope{}, c.Scopes...),
		Introspect:   c.Introspect, Trusted: c.Trusted, Tenant: c.Tenant, Profile: c.Profile, Policy: c.Policy,
		ImportedFrom: c.Imported.Source, Declared: c.Declared, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
}

// client is what a document says, with given secrets.
func (d clientDocument) client(secrets []secret.Verifier) issuer.Client {
	return issuer.Client{
		ID: d.ID, Name: d.Name, Secrets: secrets, RedirectURIs: d.RedirectURIs, GrantTypes: d.GrantTypes,
		Scopes: d.Scopes, Introspect: d.Introspect, Trusted: d.Trusted, Tenant: d.Tenant, Profile: d.Profile, Policy: d.Policy, Declared: d.Declared,
	}
}

// secretForms are the forms of verifiers, and nothing else of them.
func secretForms(secrets []secret.Verifier) []string {
	forms := []string{}
	for _, verifier := range secrets {
		forms = append(forms, strings.TrimSuffix(fmt.Sprint(verifier), " verifier"))
	}
	return forms
}

// checkTold refuses a document that sets what the server tells. Secrets is for
// the caller to check.
func (d clientDocument) checkTold(is clientDocument) error {
	field := ""
	switch {
	case !slices.Equal(d.SecretForms, is.SecretForms):
		field = "secret_forms"
	case d.ImportedFrom != is.ImportedFrom:
		field = "imported_from"
	case d.Declared != is.Declared:
		field = "declared"
	case !d.CreatedAt.Equal(is.CreatedAt):
		field = "created_at"
	case !d.UpdatedAt.Equal(is.UpdatedAt):
		field = "updated_at"
	default:
		return nil
	}
	return badRequest(fmt.Sprintf("The field %q is told by the server and cannot be set.", field), "remove the field")
}

// savedClient is the answer to a client's creation or change. Secret is there
// once, where the server generated it.
type savedClient struct {
	Client clientDocument `json:"client"`
	Secret string         `json:"secret,omitempty"`
}

func (a *api) listClients(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r)
	if err != nil {
		return err
	}
	clients, err := a.Admin.Lists().Clients(r.Context(), l.cursor, l.ask())
	if err != nil {
		return err
	}
	return writePage(w, l, clients, showClient, func(c issuer.Client) string { return c.ID })
}

func (a *api) showClient(w http.ResponseWriter, r *http.Request) error {
	client, err := a.Database.Client(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, showClient(client))
}

func (a *api) createClient(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		clientDocument
		newSecret
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if err := body.checkTold(clientDocument{}); err != nil {
		return err
	}
	if body.Secrets != 0 {
		return badRequest(`The field "secrets" counts the secrets of a client that is there.`, "remove the field")
	}
	if !body.Public && body.Secret == nil {
		body.Generate = true
	}
	verifiers, generated, err := body.newSecret.make(body.Public)
	if err != nil {
		return err
	}
	a.registry.Lock()
	defer a.registry.Unlock()
	if err := mustBeFree(a.Database.Client(r.Context(), body.ID)); err != nil {
		return err
	}
	client, err := a.Admin.SaveClient(r.Context(), a.operator(r), body.client(verifiers))
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/clients/"+url.PathEscape(client.ID))
	return writeJSON(w, http.StatusCreated, savedClient{showClient(client), generated.Reveal()})
}

func (a *api) changeClient(w http.ResponseWriter, r *http.Request) error {
	var patch map[string]json.RawMessage
	if err := readJSON(w, r, &patch); err != nil {
		return err
	}
	change, err := cutSecretChange(patch)
	if err != nil {
		return err
	}
	a.registry.Lock()
	defer a.registry.Unlock()
	old, err := a.Database.Client(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	is := showClient(old)
	var document clientDocument
	if err := mergePatch(is, patch, &document); err != nil {
		return err
	}
	if document.ID != is.ID {
		return badRequest("The id of a client cannot be changed.", "create a client with the new id, then delete this one")
	}
	if err := document.checkTold(is); err != nil {
		return err
	}
	verifiers, generated, err := change.apply(old.Secrets, document)
	if err != nil {
		return err
	}
	client, err := a.Admin.SaveClient(r.Context(), a.operator(r), document.client(verifiers))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, savedClient{showClient(client), generated.Reveal()})
}

func (a *api) deleteClient(w http.ResponseWriter, r *http.Request) error {
	a.registry.Lock()
	defer a.registry.Unlock()
	if err := a.Admin.DeleteClient(r.Context(), a.operator(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// mergePatch reads into out what from is after a JSON merge patch (RFC 7396).
// Documents are flat, so that merging their members is all of it.
func mergePatch(from any, patch map[string]json.RawMessage, out any) error {
	encoded, err := json.Marshal(from)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &members); err != nil {
		return err
	}
	for name, value := range patch {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			// encoding/json would take Name for name, and one of the two would win.
			return badRequest(fmt.Sprintf("There is no field %q.", name), "remove the field or correct its name")
		}
		if string(value) == "null" {
			delete(members, name)
		} else {
			members[name] = value
		}
	}
	if encoded, err = json.Marshal(members); err != nil {
		return err
	}
	return unmarshal(encoded, out)
}
