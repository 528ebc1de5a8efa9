package evergrant_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// grant gets tokens of alice's for the client "photos".
func (s *server) grant() (answer oauth.TokenResponse, err error) {
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"},
		"client_id": {"photos"}, "client_secret": {photosSecret.Reveal()}}
	resp, err := http.PostForm(s.URL+issuer.TokenPath, form)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	return answer, json.NewDecoder(resp.Body).Decode(&answer)
}

// connect makes a connection of tokens of alice's.
func connect(t *testing.T, s *server, client *evergrant.Client, id string) evergrant.Connection {
	t.Helper()
	answer, err := s.grant()
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CreateConnection(t.Context(), evergrant.NewConnection{ID: id, Provider: "photos", Owner: "alice", Tenant: "shop", Tokens: evergrant.Tokens{
		AccessToken: secret.NewText(answer.AccessToken), RefreshToken: secret.NewText(answer.RefreshToken), ExpiresAt: time.Now().Add(time.Hour),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestConnections is a connection's life on a real server.
func TestConnections(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	made := connect(t, s, client, "one")
	if made.ID != "one" || made.Provider != "photos" || made.Owner != "alice" || made.Tenant != "shop" || made.State != evergrant.ConnectionActive || made.ExpiresAt.IsZero() || !made.Refreshable {
		t.Fatalf("made %+v", made)
	}
	read, err := client.Connection(ctx, "one")
	if err != nil || read.ID != made.ID || !read.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("read %+v, error %v", read, err)
	}
	for filter, want := range map[evergrant.ConnectionFilter]int{{}: 1, {Provider: "photos", Owner: "alice", State: "active", Tenant: "shop"}: 1, {Owner: "bob"}: 0, {State: "paused"}: 0, {Tenant: "other"}: 0} {
		n := 0
		for _, err := range client.Connections(ctx, filter) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("%+v: %d connections", filter, n)
		}
	}

	first, err := client.AccessToken(ctx, "one", evergrant.TokenOptions{MinTTL: time.Minute})
	if err != nil || first.AccessToken.Empty() || first.TokenType != "Bearer" {
		t.Fatalf("token %+v, error %v", first, err)
	}
	renewed, err := client.Refresh(ctx, "one", false)
	if err != nil || renewed.Generation != made.Generation+1 {
		t.Errorf("refreshed %+v, error %v", renewed, err)
	}
	second, err := client.AccessToken(ctx, "one", evergrant.TokenOptions{Force: true})
	if err != nil || second.AccessToken.Equal(first.AccessToken.Reveal()) || second.Scope != "read" || time.Until(second.ExpiresAt) < 30*time.Minute {
		t.Errorf("token %+v, error %v", second, err)
	}

	paused, err := client.Pause(ctx, "one")
	if err != nil || paused.State != evergrant.ConnectionPaused {
		t.Errorf("paused %+v, error %v", paused, err)
	}
	_, err = client.AccessToken(ctx, "one", evergrant.TokenOptions{})
	if problem, ok := errors.AsType[*evergrant.Problem](err); !ok || problem.Code != evergrant.CodePaused {
		t.Errorf("token of a paused connection: %v", err)
	}
	if resumed, err := client.Resume(ctx, "one"); err != nil || resumed.State != evergrant.ConnectionActive {
		t.Errorf("resumed %+v, error %v", resumed, err)
	}
	explanation, err := client.Explain(ctx, secret.NewText("one"))
	if err != nil || explanation.Kind != "connection" || !explanation.Alive || explanation.Connection == nil || explanation.Connection.ID != "one" || explanation.Verdict == "" {
		t.Errorf("explanation %+v, error %v", explanation, err)
	}
	var types []string
	for event, err := range client.History(ctx, "one") {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, event.Type)
	}
	if len(types) < 3 || types[0] != "connection.resumed" || types[1] != "connection.paused" || types[len(types)-1] != "connection.created" {
		t.Errorf("history %q", types)
	}
	for event, err := range client.Events(ctx, evergrant.EventFilter{Connection: "one", Type: "connection.created"}) {
		if err != nil || event.Connection != "one" || event.Provider != "photos" || event.Owner != "alice" || event.Tenant != "shop" || event.Actor != "operator" {
			t.Errorf("event %+v, error %v", event, err)
		}
	}
	if deleted, err := client.DeleteConnection(ctx, "one"); err != nil || !deleted.Revoked || deleted.Problem != "" {
		t.Errorf("deleted %+v, error %v", deleted, err)
	}
	_, err = client.Connection(ctx, "one")
	if !is(404)(err) {
		t.Errorf("a deleted connection: %v", err)
	}
}

// TestReauthorization has a grant that its owner ended.
func TestReauthorization(t *testing.T) {
	s, client := start(t)
	connect(t, s, client, "one")
	if err := client.DeleteUser(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Minute)
	for name, call := range map[string]func() error{
		"token": func() error {
			_, err := client.AccessToken(t.Context(), "one", evergrant.TokenOptions{Force: true})
			return err
		},
		"source": func() error { _, err := client.TokenSource(t.Context(), "one").Token(); return err },
		"client": func() error { _, err := client.HTTPClient("one").Get(s.URL); return err },
	} {
		if name != "token" { // the first one finds out
			if _, err := client.AccessToken(t.Context(), "one", evergrant.TokenOptions{Force: true}); err == nil {
				t.Fatal("a dead connection gives a token")
			}
		}
		err := call()
		dead, ok := errors.AsType[*evergrant.ReauthorizationError](err)
		if !ok || dead.Cause != "revoked" || dead.Since.Before(before) || !strings.HasPrefix(dead.ConnectURL, s.URL+"/connect/") {
			t.Errorf("%s: error %v, %+v", name, err, dead)
		}
	}
}

func TestConnectSession(t *testing.T) {
	s, client := start(t)
	session, err := client.ConnectSession(t.Context(), evergrant.Connect{Provider: "photos", Owner: "alice", ReturnURL: "https://app.example/"})
	if err != nil || !strings.HasPrefix(session.URL, s.URL+"/connect/") || session.Connection == "" || time.Until(session.ExpiresAt) < 20*time.Minute {
		t.Errorf("session %+v, error %v", session, err)
	}
	if _, err = client.ConnectSession(t.Context(), evergrant.Connect{Provider: "nobody"}); !is(400)(err) {
		t.Errorf("unknown provider: %v", err)
	}
}

func TestProviders(t *testing.T) {
	s, client := start(t)
	connect(t, s, client, "one")
	all, err := client.Providers(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("providers %+v, error %v", all, err)
	}
	p := all[0]
	if p.Name != "photos" || p.Definition != "evergrant" || p.Title != "Evergrant" || !p.NeedsOwner || p.Rotation != "single_use" || p.ReplayWindow != "1m" || p.State != "up" ||
		p.Connections["active"] != 1 || p.Params["issuer"].Title == "" || p.Facts != nil {
		t.Errorf("provider %+v", p)
	}
	one, err := client.Provider(t.Context(), "photos")
	if err != nil || one.Name != "photos" || one.Facts["refresh_token.rotation"].Known != "read" {
		t.Errorf("provider %+v, error %v", one, err)
	}
	if _, err := client.Provider(t.Context(), "nobody"); !is(404)(err) {
		t.Errorf("unknown provider: %v", err)
	}
}

// TestEventsAreFollowed has real events on a real stream.
func TestEventsAreFollowed(t *testing.T) {
	s, client := start(t)
	connect(t, s, client, "zero")
	connect(t, s, client, "one")
	begin := int64(0)
	for event := range client.Events(t.Context(), evergrant.EventFilter{Connection: "zero"}) {
		begin = event.ID
	}
	var types []string
	for event, err := range client.FollowEvents(t.Context(), evergrant.EventFilter{Connection: "one"}, begin) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, event.Type)
		if event.Type == "connection.created" { // only now, so that it comes on the stream
			if _, err := client.Pause(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
		}
		if event.Type == "connection.paused" {
			break
		}
	}
	if !slices.Equal(types, []string{"connection.created", "connection.paused"}) {
		t.Errorf("events %q", types)
	}
	for _, err := range client.FollowEvents(t.Context(), evergrant.EventFilter{ClientID: "photos", Connection: "one"}, -1) {
		if !is(400)(err) {
			t.Errorf("filters that contradict each other: %v", err)
		}
	}
}

func TestDeliveriesAndResealing(t *testing.T) {
	s, client := start(t)
	for range client.Deliveries(t.Context()) {
		t.Error("there is a delivery, and no webhook")
	}
	if at, err := client.Resealing(t.Context()); err != nil || at == nil || at.Left != 0 {
		t.Errorf("resealing %+v, error %v", at, err)
	}
	s.Close()
	if _, err := client.Resealing(t.Context()); !errors.Is(err, evergrant.ErrUnreachable) {
		t.Errorf("without server: %v", err)
	}
	told := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"items":[{"id":7,"hook":"app","event":9,"type":"connection.paused","body":{"id":9},"created_at":"2026-01-02T03:04:05Z","attempts":2,"next_at":"2026-01-02T03:05:05Z","status":500,"error":"no"}]}`))
	})
	for d, err := range told.Deliveries(t.Context()) {
		if err != nil || d.ID != 7 || d.Hook != "app" || d.Event != 9 || d.Type != "connection.paused" || string(d.Body) != `{"id":9}` || d.Attempts != 2 || d.NextAt.IsZero() || d.Status != 500 || d.Error != "no" {
			t.Errorf("delivery %+v, error %v", d, err)
		}
	}
}

// TestHTTPClientOnARealServer calls an API that takes the token which the
// connection has, and then another one only.
func TestHTTPClientOnARealServer(t *testing.T) {
	s, client := start(t)
	connect(t, s, client, "one")
	refuse := ""
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("Authorization"); token == refuse || !strings.HasPrefix(token, "Bearer ") {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(api.Close)
	http1 := client.HTTPClient("one")
	for range 2 {
		resp, err := http1.Post(api.URL, "text/plain", strings.NewReader("hello"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, error %v", resp, err)
		}
		resp.Body.Close()
		token, err := client.AccessToken(t.Context(), "one", evergrant.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		refuse = "Bearer " + token.AccessToken.Reveal()
	}
}
