package issuer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/sqlite"
)

// A server on a SQLite file, with one client and one user: a token by the
// password grant, refreshed once, and the refresh repeated as if its answer had
// been lost.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "evergrant")
	check(err)
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "evergrant.db"), sqlite.Options{})
	check(err)
	defer db.Close()

	// All keys are derived from the root key, which is kept apart from the file.
	keys, err := secret.OpenRing(ctx, secret.NewRoot(), db, time.Now, false)
	check(err)
	server, err := issuer.New(issuer.Config{
		Issuer: "https://login.example",
		Store:  db,
		Keys:   keys,
		Scopes: map[string]string{"read": "Read your data"},
	})
	check(err)

	admin, me := issuer.NewAdmin(server, db), issuer.Actor{Name: "operator"}
	clientSecret := secret.NewSecret()
	_, err = admin.SaveClient(ctx, me, issuer.Client{
		ID: "TestClient", Secrets: []secret.Verifier{secret.NewVerifier(clientSecret)},
		GrantTypes: []string{oauth.GrantPassword, oauth.GrantRefreshToken},
	})
	check(err)
	_, err = admin.SaveUser(ctx, me, issuer.User{Username: "bshaffer", Password: secret.NewVerifier(secret.NewText("brent123"))})
	check(err)

	request := func(form url.Values) (tokens oauth.TokenResponse) {
		r := httptest.NewRequest(http.MethodPost, issuer.TokenPath, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", oauth.FormType)
		r.Header.Set("Authorization", oauth.BasicHeader("TestClient", clientSecret.Reveal()))
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		check(json.Unmarshal(w.Body.Bytes(), &tokens))
		return tokens
	}
	first := request(url.Values{"grant_type": {"password"}, "username": {"bshaffer"}, "password": {"brent123"}})
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}}
	second, again := request(refresh), request(refresh)

	fmt.Println("rotated:", second.RefreshToken != first.RefreshToken)
	fmt.Println("the same answer again:", again.AccessToken == second.AccessToken && again.RefreshToken == second.RefreshToken)
	fmt.Println("scope:", second.Scope)
	// Output:
	// rotated: true
	// the same answer again: true
	// scope: read
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
