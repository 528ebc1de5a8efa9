package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// problem is a refusal as the API tells it (RFC 9457). Its type is always
// about:blank, so that the title is the status in words; programs tell refusals
// of the keeper apart by their code.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next,omitempty"` // what to do next

	Code       string         `json:"code,omitempty"`       // see the codes
	Connection string         `json:"connection,omitempty"` // that cannot be used
	Provider   string         `json:"provider,omitempty"`
	State      keeper.State   `json:"state,omitempty"`
	Cause      keeper.Cause   `json:"cause,omitempty"`
	Class      provider.Class `json:"error_class,omitempty"`
	Since      time.Time      `json:"since,omitzero"`
	ConnectURL string         `json:"connect_url,omitempty"` // where the owner repairs it

	retryAfter time.Duration // a second where 0 and the status is 503
}

// The codes of a connection that gives no token.
const (
	codeReauthorize = "reauthorization_required" // the owner has to connect again
	codePaused      = "connection_paused"
	codeUnavailable = "provider_unavailable" // now; the token may come later
)

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
	{issuer.ErrBadImport, http.StatusBadRequest, "correct it and send the batch again"},
	{secret.ErrCurrentKey, http.StatusConflict, "rotate the keys, wait until the new key is current, then delete this one"},
	{secret.ErrKeyInUse, http.StatusConflict, "GET /v1/keys or `evergrant key list` shows how many are left; delete the key when none are"},
	{keeper.ErrExists, http.StatusConflict, "choose another id, or leave it out; to put new tokens into the connection, delete it first or let its owner connect again"},
	{secret.ErrKeyExists, http.StatusConflict, "somebody else rotated at the same time; list the keys before you do it again"},
}

// problemOf says what the API tells of an error, and whether the error belongs
// in the log because it is the server's.
func problemOf(err error) (told *problem, ours bool) {
	if told, ok := errors.AsType[*problem](err); ok {
		return told, false
	}
	if unusable, ok := errors.AsType[*keeper.Unusable](err); ok {
		return unusableProblem(unusable), false
	}
	if refusal, ok := errors.AsType[*keeper.Refusal](err); ok {
		return refusalProblem(refusal.Reason, err.Error()), false
	}
	for _, row := range problems {
		if errors.Is(err, row.err) {
			return refuse(row.status, err.Error(), row.next), false
		}
	}
	switch {
	case errors.Is(err, issuer.ErrNotFound), errors.Is(err, keeper.ErrNotFound):
		return refuse(http.StatusNotFound, "There is no such thing on this server.", ""), false
	case errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, "The request was given up.", "send the same request again"), false
	}
	// Whatever a store fails with, the outcome may be unknown; see issuer.Store.
	return refuse(http.StatusServiceUnavailable, "The database is unavailable; the log of the server says why.",
		"look whether it is done, and send the same request again if not"), true
}

// refusals is the table of what the keeper refuses to do; 400 where a reason is
// not here.
var refusals = map[keeper.Reason]struct {
	status int
	next   string
}{
	keeper.ReasonUnknownProvider: {http.StatusBadRequest, nextProviders},
	keeper.ReasonBadParams:       {http.StatusBadRequest, "see what the provider asks for with GET /v1/providers/{name} or `evergrant provider show`"},
	keeper.ReasonNoTokens:        {http.StatusBadRequest, "make a connect session with POST /v1/connect-sessions, and send the owner to its URL"},
	keeper.ReasonNoOwnerNeeded:   {http.StatusBadRequest, "make the connection with POST /v1/connections, without tokens"},
	keeper.ReasonOtherConnection: {http.StatusConflict, "leave out what the connection says itself, or choose another id"},
}

func refusalProblem(reason keeper.Reason, detail string) *problem {
	row := refusals[reason]
	if row.status == 0 {
		row.status = http.StatusBadRequest
	}
	told := refuse(row.status, sentence(detail), row.next)
	told.Code = string(reason)
	return told
}

// unusableProblem says why a connection gives no token, and whether somebody has
// to act (409) or time does it (503).
func unusableProblem(u *keeper.Unusable) *problem {
	told := refuse(http.StatusServiceUnavailable, sentence(strings.TrimSuffix(u.Error(), "; "+u.Repair)), u.Repair)
	told.Code, told.Connection, told.Provider = codeUnavailable, u.Connection, u.Provider
	told.State, told.Cause, told.Class, told.Since = u.State, u.Cause, u.Class, u.Since
	told.retryAfter = u.RetryAfter
	switch {
	case u.NeedsOwner():
		told.Code, told.Status = codeReauthorize, http.StatusConflict
	case u.State == keeper.Paused:
		told.Code, told.Status = codePaused, http.StatusConflict
	case u.RetryAfter == 0:
		told.retryAfter = time.Minute // an operator has to mend something
	}
	told.Title = http.StatusText(told.Status)
	return told
}

// sentence is an error's text as the API writes its details.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if first, _, _ := strings.Cut(text, " "); strings.Contains(first, "_") { // the name of a field
		return strings.TrimSuffix(text, ".") + "."
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// writeProblem answers with a problem.
func writeProblem(w http.ResponseWriter, told *problem) {
	body, _ := json.Marshal(told) // strings, a number and a time
	w.Header().Set("Content-Type", "application/problem+json")
	if told.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(max(told.retryAfter, time.Second)), 10))
	}
	w.WriteHeader(told.Status)
	w.Write(body)
}

// wholeSeconds is a duration in seconds, rounded up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

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
