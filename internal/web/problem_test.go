package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// TestProblems is the table from errors to what is told of them: the status, the
// code, and whether the error is the server's and so in its log.
func TestProblems(t *testing.T) {
	since := time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)
	unusable := func(u keeper.Unusable) error {
		u.Connection, u.Provider, u.Since, u.Repair = "one", "plain", since, "do this"
		return fmt.Errorf("while reading: %w", &u)
	}
	for name, tt := range map[string]struct {
		err        error
		status     int
		code       string
		retryAfter string
		ours       bool
	}{
		"a problem itself":    {refuse(http.StatusTeapot, "It is a teapot.", ""), http.StatusTeapot, "", "", false},
		"bad client":          {fmt.Errorf("%w: no", issuer.ErrBadClient), 400, "", "", false},
		"bad user":            {fmt.Errorf("%w: no", issuer.ErrBadUser), 400, "", "", false},
		"bad import":          {fmt.Errorf("%w: no", issuer.ErrBadImport), 400, "", "", false},
		"current key":         {secret.ErrCurrentKey, 409, "", "", false},
		"key in use":          {secret.ErrKeyInUse, 409, "", "", false},
		"key made at once":    {secret.ErrKeyExists, 409, "", "", false},
		"taken id":            {keeper.ErrExists, 409, "", "", false},
		"no row":              {issuer.ErrNotFound, 404, "", "", false},
		"no connection":       {fmt.Errorf("%w: one", keeper.ErrNotFound), 404, "", "", false},
		"unknown provider":    {fmt.Errorf("%w: %q", keeper.ErrUnknownProvider, "x"), 400, "unknown_provider", "", false},
		"bad params":          {&keeper.Refusal{Reason: keeper.ReasonBadParams, Detail: "no shop"}, 400, "bad_params", "", false},
		"other connection":    {&keeper.Refusal{Reason: keeper.ReasonOtherConnection}, 409, "other_connection", "", false},
		"a reason of no row":  {&keeper.Refusal{Reason: "new_reason", Detail: "x"}, 400, "new_reason", "", false},
		"dead":                {unusable(keeper.Unusable{State: keeper.Reauthorize, Cause: keeper.CauseRevoked}), 409, "reauthorization_required", "", false},
		"dead, with a retry":  {unusable(keeper.Unusable{State: keeper.Reauthorize, RetryAfter: time.Minute}), 409, "reauthorization_required", "", false},
		"in doubt for ever":   {unusable(keeper.Unusable{State: keeper.InDoubt, Cause: keeper.CauseRestored}), 409, "reauthorization_required", "", false},
		"in doubt for a time": {unusable(keeper.Unusable{State: keeper.InDoubt, RetryAfter: 90*time.Second + 1}), 503, "provider_unavailable", "91", false},
		"paused":              {unusable(keeper.Unusable{State: keeper.Paused}), 409, "connection_paused", "", false},
		"down":                {unusable(keeper.Unusable{State: keeper.Active, Class: provider.Transient, RetryAfter: 30 * time.Second}), 503, "provider_unavailable", "30", false},
		"in a moment":         {unusable(keeper.Unusable{State: keeper.Active, RetryAfter: time.Millisecond}), 503, "provider_unavailable", "1", false},
		"until it is mended":  {unusable(keeper.Unusable{State: keeper.Active, Class: provider.BadClient}), 503, "provider_unavailable", "60", false},
		"given up":            {context.Canceled, 503, "", "1", false},
		"of a store":          {errors.New("disk I/O error in /data/evergrant.db"), 503, "", "1", true},
		"too late":            {context.DeadlineExceeded, 503, "", "1", true},
	} {
		t.Run(name, func(t *testing.T) {
			told, ours := problemOf(tt.err)
			if told.Status != tt.status || told.Code != tt.code || ours != tt.ours || told.Title != http.StatusText(tt.status) {
				t.Errorf("told %+v, ours %v", told, ours)
			}
			w := httptest.NewRecorder()
			writeProblem(w, told)
			if w.Code != tt.status || w.Header().Get("Retry-After") != tt.retryAfter || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("written with %d and %v", w.Code, w.Header())
			}
			if strings.Contains(w.Body.String(), "/data/") {
				t.Errorf("tells of the inside: %s", w.Body)
			}
		})
	}
	told, _ := problemOf(unusable(keeper.Unusable{State: keeper.Reauthorize, Cause: keeper.CauseRevoked, Class: provider.Revoked}))
	var document map[string]any
	text, _ := json.Marshal(told)
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for member, want := range map[string]any{
		"type": "about:blank", "title": "Conflict", "status": 409.0, "code": "reauthorization_required", "connection": "one", "provider": "plain",
		"state": "reauthorize", "cause": "revoked", "error_class": "revoked", "since": "2031-05-17T09:30:00Z", "next": "do this",
		"detail": "Connection one at plain is reauthorize (revoked) since 2031-05-17T09:30:00Z.", "connect_url": nil,
	} {
		if document[member] != want {
			t.Errorf("%s is %v, want %v", member, document[member], want)
		}
	}
	if told.Error() != told.Detail {
		t.Errorf("as an error it says %q", told.Error())
	}
}

func TestSentence(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "no": "No.", "it is done": "It is done.", "It is done.": "It is done.", "return_url must be short": "return_url must be short.", "expires_in": "expires_in.",
	} {
		if got := sentence(text); got != want {
			t.Errorf("sentence(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestLoggedPath(t *testing.T) {
	for path, want := range map[string]string{
		"/connect/AAAAAQsecret": "/connect/...", "/connect/": "/connect/...", "/connect/callback": "/connect/callback", "/connect/callback/x": "/connect/...",
		"/v1/connections/one": "/v1/connections/one", "/connected": "/connected",
	} {
		if got := loggedPath(httptest.NewRequest("GET", path+"?state=hush", nil)); got != want {
			t.Errorf("%s is logged as %s, want %s", path, got, want)
		}
	}
}

// TestCallers: who may do what, whom they see, and how they are named.
func TestCallers(t *testing.T) {
	operator := caller{operator: true}
	client := caller{client: issuer.Client{ID: "app", Tenant: "acme"}, scope: []string{ScopeRead}}
	nobody := caller{}
	for _, tt := range []struct {
		who   caller
		scope string
		may   bool
	}{
		{operator, "", true}, {operator, ScopeWrite, true}, {client, ScopeRead, true}, {client, ScopeToken, false}, {client, "", false}, {nobody, ScopeRead, false}, {nobody, "", false},
	} {
		if tt.who.may(tt.scope) != tt.may {
			t.Errorf("%+v may %q: %v", tt.who, tt.scope, !tt.may)
		}
	}
	if operator.tenant() != nil || *client.tenant() != "acme" || !operator.sees("acme") || !operator.sees("") || !client.sees("acme") || client.sees("") || client.sees("other") {
		t.Error("somebody sees what is not theirs, or does not see what is")
	}
	if a := client.actor("192.0.2.1"); a.Name != "client:app" || a.Address != "192.0.2.1" {
		t.Errorf("actor %+v", a)
	}
	if a := operator.actor(""); a.Name != "operator" {
		t.Errorf("actor %+v", a)
	}
	for _, tt := range []struct {
		who   caller
		named string
		want  string // "*" for all, "!" where it is refused
	}{
		{operator, "", "*"}, {operator, "acme", "acme"}, {client, "", "acme"}, {client, "acme", "acme"}, {client, "other", "!"},
	} {
		chosen, err := tt.who.choose(tt.named)
		got := "*"
		if err != nil {
			got = "!"
		} else if chosen != nil {
			got = *chosen
		}
		if got != tt.want {
			t.Errorf("%+v naming %q gets %q, want %q", tt.who, tt.named, got, tt.want)
		}
	}
}
