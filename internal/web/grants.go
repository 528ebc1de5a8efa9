package web

import (
	"net/http"

	"github.com/evergrant/evergrant/issuer"
)

// grantDocument is a grant as the API shows it.
type grantDocument struct {
	issuer.Grant
	Alive bool `json:"alive"` // its code or refresh token can still be used
}

func (a *api) document(g issuer.Grant) grantDocument { return grantDocument{g, g.Live(a.Now())} }

func (a *api) listGrants(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r, "client", "subject")
	if err != nil {
		return err
	}
	filter := issuer.GrantFilter{ClientID: l.query.Get("client"), Subject: l.query.Get("subject"), Limit: l.ask()}
	if l.cursor != "" {
		if filter.After, err = issuer.ParseGrantID(l.cursor); err != nil {
			return badCursor()
		}
	}
	grants, err := a.Admin.Lists().Grants(r.Context(), filter)
	if err != nil {
		return err
	}
	return writePage(w, l, grants, a.document, func(g issuer.Grant) string { return g.ID.String() })
}

func (a *api) showGrant(w http.ResponseWriter, r *http.Request) error {
	id, err := readGrantID(r.PathValue("id"))
	if err != nil {
		return err
	}
	grant, err := a.Database.Grant(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a.document(grant))
}

func (a *api) revokeGrant(w http.ResponseWriter, r *http.Request) error {
	id, err := readGrantID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := a.Admin.RevokeGrant(r.Context(), a.operator(r), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// revokeGrants revokes all grants of a client, of a resource owner, or of both.
func (a *api) revokeGrants(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := issuer.GrantFilter{ClientID: query.Get("client"), Subject: query.Get("subject")}
	if filter.ClientID == "" && filter.Subject == "" {
		return badRequest("Whose grants are to be revoked is not said.", "add ?client=ID or ?subject=NAME to the URL")
	}
	revoked, err := a.Admin.RevokeGrants(r.Context(), a.operator(r), filter, issuer.CauseOperatorRequest)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Revoked int `json:"revoked"`
	}{revoked})
}

func readGrantID(s string) (issuer.GrantID, error) {
	id, err := issuer.ParseGrantID(s)
	if err != nil {
		return id, badRequest("A grant id has 32 hexadecimal digits.", "")
	}
	return id, nil
}
