package web

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// keyDocument is a key as the API shows it.
type keyDocument struct {
	ID         uint32    `json:"id"`
	State      string    `json:"state"` // pending, current or retired
	CreatedAt  time.Time `json:"created_at"`
	ActiveFrom time.Time `json:"active_from"`
	RS256      bool      `json:"rs256"` // can sign RS256
}

// keys are the keys in force as documents, lowest number first. The newest that
// is active makes tokens.
func (a *api) keys() []keyDocument {
	now, documents, active := a.Now(), []keyDocument{}, "current"
	for _, record := range slices.Backward(a.Admin.Keys()) {
		state := "pending"
		if !now.Before(record.ActiveFrom) {
			state, active = active, "retired"
		}
		documents = append(documents, keyDocument{record.ID, state, record.CreatedAt, record.ActiveFrom, record.SealedRSA != nil})
	}
	slices.Reverse(documents)
	return documents
}

// keysDocument are the keys. Resealing is how far the keeper is with sealing
// everything under the newest one.
type keysDocument struct {
	Items     []keyDocument     `json:"items"`
	Resealing *keeper.Resealing `json:"resealing,omitempty"`
}

func (a *api) listKeys(w http.ResponseWriter, r *http.Request) error {
	document := keysDocument{Items: a.keys()}
	if a.Keeper != nil {
		document.Resealing = new(a.Keeper.Resealing())
	}
	return writeJSON(w, http.StatusOK, document)
}

// defaultLead is longer than resource servers usually cache public keys.
const defaultLead = issuer.Lifetime(10 * time.Minute)

func (a *api) rotateKeys(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Lead issuer.Lifetime `json:"lead"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &body); err != nil {
			return err
		}
	}
	if body.Lead == 0 {
		body.Lead = defaultLead
	}
	record, err := a.Admin.RotateKeys(r.Context(), a.operator(r), max(0, time.Duration(body.Lead)))
	if err != nil {
		return err
	}
	for _, document := range a.keys() {
		if document.ID == record.ID {
			return writeJSON(w, http.StatusCreated, document)
		}
	}
	return errors.New("the new key was deleted at once")
}

func (a *api) deleteKey(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	is := func(record secret.KeyRecord) bool { return record.ID == uint32(id) }
	if err != nil || !slices.ContainsFunc(a.Admin.Keys(), is) {
		return issuer.ErrNotFound
	}
	if err := a.Admin.DeleteKey(r.Context(), a.operator(r), uint32(id)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) purge(w http.ResponseWriter, r *http.Request) error {
	purged, err := a.Admin.Purge(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, purged)
}

func (a *api) stats(w http.ResponseWriter, r *http.Request) error {
	stats, err := a.Admin.Lists().Stats(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, stats)
}

// backup streams a copy of the database. After the first byte a failure can
// only be told by breaking the connection off, which no reader takes for the
// end.
func (a *api) backup(w http.ResponseWriter, r *http.Request) error {
	// A copy takes as long as the reader does; where the server has no write
	// deadline there is none to lift.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	if err := a.Admin.BackingUp(r.Context(), a.operator(r)); err != nil {
		return err
	}
	body := &startedWriter{w: w}
	err := a.Database.Backup(r.Context(), body)
	if err != nil && body.started {
		a.Log.ErrorContext(r.Context(), "backup broken off", "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// startedWriter knows whether the answer has begun.
type startedWriter struct {
	w       http.ResponseWriter
	started bool
}

func (s *startedWriter) Write(b []byte) (int, error) {
	if !s.started {
		s.started = true
		s.w.Header().Set("Content-Type", "application/octet-stream")
	}
	return s.w.Write(b)
}
