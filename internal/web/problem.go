package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// problem is a refusal as the API tells it (RFC 9457). Its type is always
// about:blank, so that the title is the status in words.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next,omitempty"` // what to do next
}

func (p *problem) Error() string { return p.Detail }

func refuse(status int, detail, next string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Next: next}
}

func badRequest(detail, next string) *problem { return refuse(http.StatusBadRequest, detail, next) }

// problems is the one table from errors to what the API tells of them. Errors
// that it does not have stay in the log.
var problems = []struct {
	err    error
	status int
	next   string
}{
	{issuer.ErrBadClient, http.StatusBadRequest, "correct the client and send it again"},
	{issuer.ErrBadUser, http.StatusBadRequest, "correct the user and send it again"},
	{secret.ErrCurrentKey, http.StatusConflict, "rotate the keys, wait until the new key is current, then delete this one"},
	{secret.ErrKeyExists, http.StatusConflict, "somebody else rotated at the same time; list the keys before you do it again"},
}

// problemOf says what the API tells of an error, and whether the error belongs
// in the log because it is the server's.
func problemOf(err error) (told *problem, ours bool) {
	if told, ok := errors.AsType[*problem](err); ok {
		return told, false
	}
	for _, row := range problems {
		if errors.Is(err, row.err) {
			return refuse(row.status, err.Error(), row.next), false
		}
	}
	switch {
	case errors.Is(err, issuer.ErrNotFound):
		return refuse(http.StatusNotFound, "There is no such thing on this server.", ""), false
	case errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, "The request was given up.", "send the same request again"), false
	}
	// Whatever a store fails with, the outcome may be unknown; see issuer.Store.
	return refuse(http.StatusServiceUnavailable, "The database is unavailable; the log of the server says why.",
		"look whether it is done, and send the same request again if not"), true
}

// writeProblem answers with a problem.
func writeProblem(w http.ResponseWriter, told *problem) {
	body, _ := json.Marshal(told) // strings and a number
	w.Header().Set("Content-Type", "application/problem+json")
	if told.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(told.Status)
	w.Write(body)
}

// writeJSON answers with a document.
func writeJSON(w http.ResponseWriter, status int, document any) error {
	body, err := json.Marshal(document)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
	return nil
}
