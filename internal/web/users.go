package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// userDocument is a user as the API shows it, without the password's verifier.
type userDocument struct {
	Username     string          `json:"username"`
	Info         json.RawMessage `json:"info,omitempty"`          // a JSON object
	ImportedFrom string          `json:"imported_from,omitempty"` // the source of an import, where nobody has changed it since
	Declared     bool            `json:"declared"`
	CreatedAt    time.Time       `json:"created_at,omitzero"`
	UpdatedAt    time.Time       `json:"updated_at,omitzero"`
}

func showUser(u issuer.User) userDocument {
	return userDocument{u.Username, u.Info, u.Imported.Source, u.Declared, u.CreatedAt, u.UpdatedAt}
}

func (a *api) listUsers(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r)
	if err != nil {
		return err
	}
	users, err := a.Admin.Lists().Users(r.Context(), l.cursor, l.ask())
	if err != nil {
		return err
	}
	return writePage(w, l, users, showUser, func(u issuer.User) string { return u.Username })
}

func (a *api) showUser(w http.ResponseWriter, r *http.Request) error {
	user, err := a.Database.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, showUser(user))
}

func (a *api) createUser(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Username string          `json:"username"`
		Password secret.Text     `json:"password"`
		Info     json.RawMessage `json:"info"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if err := checkPassword(body.Password); err != nil {
		return err
	}
	verifier := secret.NewVerifier(body.Password)
	a.registry.Lock()
	defer a.registry.Unlock()
	if err := mustBeFree(a.Database.User(r.Context(), body.Username)); err != nil {
		return err
	}
	user, err := a.Admin.SaveUser(r.Context(), a.operator(r), issuer.User{Username: body.Username, Password: verifier, Info: compact(body.Info)})
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/users/"+url.PathEscape(user.Username))
	return writeJSON(w, http.StatusCreated, showUser(user))
}

// changeUser replaces what a request names: the password, info, or both.
func (a *api) changeUser(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Password *secret.Text    `json:"password"`
		Info     json.RawMessage `json:"info"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	var verifier secret.Verifier
	switch {
	case body.Password != nil:
		if err := checkPassword(*body.Password); err != nil {
			return err
		}
		verifier = secret.NewVerifier(*body.Password)
	case body.Info == nil:
		return badRequest("There is nothing to change.", `send "password", or "info", or both`)
	}
	a.registry.Lock()
	defer a.registry.Unlock()
	user, err := a.Database.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	if verifier != "" {
		user.Password = verifier
	}
	if body.Info != nil {
		user.Info = compact(body.Info)
	}
	if user, err = a.Admin.SaveUser(r.Context(), a.operator(r), user); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, showUser(user))
}

// compact is valid JSON without white space around its members, and null as
// nothing. The order of members stays.
func compact(text json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if len(text) == 0 || string(text) == "null" || json.Compact(&out, text) != nil {
		return nil
	}
	return out.Bytes()
}

func (a *api) deleteUser(w http.ResponseWriter, r *http.Request) error {
	a.registry.Lock()
	defer a.registry.Unlock()
	if err := a.Admin.DeleteUser(r.Context(), a.operator(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func checkPassword(password secret.Text) error {
	if password.Empty() || len(password.Reveal()) > maxSecret {
		return badRequest(fmt.Sprintf("A password has 1 to %d bytes.", maxSecret), "")
	}
	return nil
}
