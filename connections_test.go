package evergrant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// connectionDocument is a connection as the server tells it, with every member.
const connectionDocument = `{"id":"a b","provider":"tink","tenant":"t","owner":"ann","state":"in_doubt","cause":"answer_lost","since":"2026-01-02T03:04:05Z",
"background":"on_demand","params":{"market":"SE"},"metadata":{"n":1},"scope":["a","b"],"asked":["a","b","c"],"token_type":"Bearer","generation":7,
"issued_at":"2026-01-02T03:00:00Z","expires_at":"2026-01-02T04:00:00Z","refresh_expires_at":"2026-02-02T03:00:00Z","ends_at":"2027-01-02T03:00:00Z","refreshable":true,
"rotates":true,"due_at":"2026-01-02T03:55:00Z","attempt":2,"error_class":"ambiguous","error":"no answer","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-02T03:04:05Z"}`

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t
}

// wantConnection is what the document says.
func wantConnection() evergrant.Connection {
	return evergrant.Connection{
		ID: "a b", Provider: "tink", Tenant: "t", Owner: "ann", State: evergrant.ConnectionInDoubt, Cause: "answer_lost", Since: at("2026-01-02 03:04:05"),
		Background: "on_demand", Params: map[string]string{"market": "SE"}, Metadata: map[string]any{"n": 1.0}, Scope: oauth.Scope{"a", "b"}, Asked: oauth.Scope{"a", "b", "c"},
		TokenType: "Bearer", Generation: 7, IssuedAt: at("2026-01-02 03:00:00"), ExpiresAt: at("2026-01-02 04:00:00"), RefreshExpiresAt: at("2026-02-02 03:00:00"),
		EndsAt: at("2027-01-02 03:00:00"), Refreshable: true, DueAt: at("2026-01-02 03:55:00"), Attempt: 2, ErrorClass: "ambiguous", Error: "no answer",
		CreatedAt: at("2026-01-01 00:00:00"), UpdatedAt: at("2026-01-02 03:04:05"),
	}
}

// TestConnectionCalls has each call with what it sends and what it makes of the
// answer.
func TestConnectionCalls(t *testing.T) {
	ctx := context.Background()
	whole := wantConnection()
	for _, tt := range []struct {
		name, request, body string
		answer              string
		do                  func(*evergrant.Client) (any, error)
		want                any
	}{
		{"list", "GET /v1/connections?owner=ann&provider=tink&state=active&tenant=t", "", `{"items":[` + connectionDocument + `]}`, func(c *evergrant.Client) (any, error) {
			filter := evergrant.ConnectionFilter{Provider: "tink", Owner: "ann", State: "active", Tenant: "t"}
			for connection, err := range c.Connections(ctx, filter) {
				return connection, err
			}
			return nil, nil
		}, whole},
		{"show", "GET /v1/connections/a%20b", "", connectionDocument, func(c *evergrant.Client) (any, error) { return c.Connection(ctx, "a b") }, whole},
		{"create", "POST /v1/connections", `{"background":"on_demand","id":"a b","metadata":{"n":1},"owner":"ann","params":{"market":"SE"},"provider":"tink","tenant":"t",` +
			`"tokens":{"access_token":"AT","expires_at":"2026-01-02T04:00:00Z","refresh_token":"RT","refresh_token_expires_at":"2026-02-02T03:00:00Z","scope":"a b","token_type":"Bearer"}}`,
			connectionDocument, func(c *evergrant.Client) (any, error) {
				return c.CreateConnection(ctx, evergrant.NewConnection{
					ID: "a b", Provider: "tink", Tenant: "t", Owner: "ann", Params: map[string]string{"market": "SE"}, Metadata: map[string]any{"n": 1}, Background: "on_demand",
					Tokens: evergrant.Tokens{AccessToken: secret.NewText("AT"), RefreshToken: secret.NewText("RT"), TokenType: "Bearer", Scope: oauth.Scope{"a", "b"},
						ExpiresAt: at("2026-01-02 04:00:00"), RefreshExpiresAt: at("2026-02-02 03:00:00")},
				})
			}, whole},
		{"create of nothing", "POST /v1/connections", `{"provider":"flexiti","tokens":{}}`, connectionDocument,
			func(c *evergrant.Client) (any, error) {
				return c.CreateConnection(ctx, evergrant.NewConnection{Provider: "flexiti"})
			}, whole},
		{"refresh", "POST /v1/connections/a%20b/refresh", `{"even_in_doubt":false}`, connectionDocument,
			func(c *evergrant.Client) (any, error) { return c.Refresh(ctx, "a b", false) }, whole},
		{"refresh in doubt", "POST /v1/connections/a%20b/refresh", `{"even_in_doubt":true}`, connectionDocument,
			func(c *evergrant.Client) (any, error) { return c.Refresh(ctx, "a b", true) }, whole},
		{"pause", "POST /v1/connections/a%20b/pause", "", connectionDocument, func(c *evergrant.Client) (any, error) { return c.Pause(ctx, "a b") }, whole},
		{"resume", "POST /v1/connections/a%20b/resume", "", connectionDocument, func(c *evergrant.Client) (any, error) { return c.Resume(ctx, "a b") }, whole},
		{"delete", "DELETE /v1/connections/a%20b", "", `{"revoked":false,"problem":"it is down"}`,
			func(c *evergrant.Client) (any, error) { return c.DeleteConnection(ctx, "a b") }, evergrant.Deleted{Problem: "it is down"}},
		{"history", "GET /v1/connections/a%20b/history?", "", `{"items":[{"id":9,"at":"2026-01-02T03:04:05Z","type":"connection.refreshed","connection":"a b","provider":"tink",` +
			`"tenant":"t","owner":"ann","generation":7,"class":"revoked","cause":"revoked","actor":"keeper","address":"::1","detail":"d"}]}`, func(c *evergrant.Client) (any, error) {
			for event, err := range c.History(ctx, "a b") {
				return event, err
			}
			return nil, nil
		}, evergrant.Event{ID: 9, At: at("2026-01-02 03:04:05"), Type: "connection.refreshed", Connection: "a b", Provider: "tink", Tenant: "t", Owner: "ann",
			Generation: 7, Class: "revoked", Cause: "revoked", Actor: "keeper", Address: "::1", Detail: "d"}},
		{"connect session", "POST /v1/connect-sessions", `{"provider":"tink","tenant":"t","owner":"ann","connection":"a b","params":{"market":"SE"},"return_url":"https://app.example/"}`,
			`{"url":"https://x.example/connect/abc","expires_at":"2026-01-02T03:34:05Z","connection":"a b"}`, func(c *evergrant.Client) (any, error) {
				return c.ConnectSession(ctx, evergrant.Connect{Provider: "tink", Tenant: "t", Owner: "ann", Connection: "a b",
					Params: map[string]string{"market": "SE"}, ReturnURL: "https://app.example/"})
			}, evergrant.ConnectSession{URL: "https://x.example/connect/abc", ExpiresAt: at("2026-01-02 03:34:05"), Connection: "a b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var request, body string
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				sent, _ := io.ReadAll(r.Body)
				request, body = r.Method+" "+r.URL.RequestURI(), string(sent)
				io.WriteString(w, tt.answer)
			})
			got, err := tt.do(client)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, error %v\nwant %+v", got, err, tt.want)
			}
			if request != tt.request {
				t.Errorf("request %s, want %s", request, tt.request)
			}
			if !sameJSON(body, tt.body) {
				t.Errorf("body %s, want %s", body, tt.body)
			}
		})
	}
}

func sameJSON(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	var first, second any
	return json.Unmarshal([]byte(a), &first) == nil && json.Unmarshal([]byte(b), &second) == nil && reflect.DeepEqual(first, second)
}

func TestAccessToken(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options evergrant.TokenOptions
		request string
	}{
		{"any", evergrant.TokenOptions{}, "/v1/connections/a/token"},
		{"that lives", evergrant.TokenOptions{MinTTL: 90 * time.Second}, "/v1/connections/a/token?min_ttl=1m30s"},
		{"days", evergrant.TokenOptions{MinTTL: 49 * time.Hour}, "/v1/connections/a/token?min_ttl=2d1h"},
		{"odd", evergrant.TokenOptions{MinTTL: time.Second + time.Nanosecond}, "/v1/connections/a/token?min_ttl=1s"},
		{"new", evergrant.TokenOptions{Force: true, MinTTL: time.Minute}, "/v1/connections/a/token?force=true&min_ttl=1m"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var request string
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				request = r.URL.RequestURI()
				io.WriteString(w, `{"access_token":"AT","token_type":"Bearer","expires_at":"2026-01-02T04:00:00Z","expires_in":3600,"scope":"a b"}`)
			})
			token, err := client.AccessToken(t.Context(), "a", tt.options)
			if err != nil || token.AccessToken.Reveal() != "AT" || token.TokenType != "Bearer" || !token.ExpiresAt.Equal(at("2026-01-02 04:00:00")) || token.Scope != "a b" {
				t.Errorf("token %+v, error %v", token, err)
			}
			if request != tt.request {
				t.Errorf("request %s, want %s", request, tt.request)
			}
		})
	}
}

// TestConnectionProblems has the refusals that programs tell apart.
func TestConnectionProblems(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		answer string
		retry  string
		check  func(error) bool
	}{
		{"dead", 409, `"code":"reauthorization_required","cause":"refresh_token_expired","since":"2026-01-02T03:04:05Z","connect_url":"https://x.example/connect/abc"`, "", func(err error) bool {
			e, ok := errors.AsType[*evergrant.ReauthorizationError](err)
			return ok && e.Cause == "refresh_token_expired" && e.Since.Equal(at("2026-01-02 03:04:05")) && e.ConnectURL == "https://x.example/connect/abc" && e.Problem.Next == "connect again"
		}},
		{"paused", 409, `"code":"connection_paused"`, "", func(err error) bool {
			_, dead := errors.AsType[*evergrant.ReauthorizationError](err)
			problem, ok := errors.AsType[*evergrant.Problem](err)
			return ok && !dead && problem.Code == evergrant.CodePaused && problem.RetryAfter == 0
		}},
		{"down", 503, `"code":"provider_unavailable"`, "90", func(err error) bool {
			problem, ok := errors.AsType[*evergrant.Problem](err)
			return ok && problem.Code == evergrant.CodeUnavailable && problem.RetryAfter == 90*time.Second
		}},
		{"a date", 503, `"code":"provider_unavailable"`, "Fri, 31 Dec 1999 23:59:59 GMT", func(err error) bool {
			problem, ok := errors.AsType[*evergrant.Problem](err)
			return ok && problem.RetryAfter == 0
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/problem+json")
				if tt.retry != "" {
					w.Header().Set("Retry-After", tt.retry)
				}
				w.WriteHeader(tt.status)
				fmt.Fprintf(w, `{"type":"about:blank","title":%q,"status":%d,"detail":"It is so.","next":"connect again",%s}`, http.StatusText(tt.status), tt.status, tt.answer)
			})
			for name, call := range map[string]func() error{
				"token":   func() error { _, err := client.AccessToken(t.Context(), "a", evergrant.TokenOptions{}); return err },
				"refresh": func() error { _, err := client.Refresh(t.Context(), "a", false); return err },
				"source":  func() error { _, err := client.TokenSource(t.Context(), "a").Token(); return err },
			} {
				if err := call(); !tt.check(err) || !strings.Contains(err.Error(), "It is so.") {
					t.Errorf("%s: error %v", name, err)
				}
			}
		})
	}
}
