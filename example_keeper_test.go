package evergrant_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

// startExampleAPI starts an API of a provider, which says whether a request has a
// token.
func startExampleAPI() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "three photos")
	}))
}

// Takes over the tokens that an application has, and calls a provider's API with
// a token that is always fresh.
func ExampleClient_HTTPClient() {
	server, err := startServer() // usually one that is running already
	if err != nil {
		log.Fatal(err)
	}
	defer server.stop()
	tokens, err := server.grant()
	if err != nil {
		log.Fatal(err)
	}
	api := startExampleAPI()
	defer api.Close()
	ctx := context.Background()
	client := &evergrant.Client{Server: server.URL, Token: secret.NewText(adminToken)}

	connection, err := client.CreateConnection(ctx, evergrant.NewConnection{
		ID: "photos-of-alice", Provider: "photos", Owner: "alice",
		Tokens: evergrant.Tokens{AccessToken: secret.NewText(tokens.AccessToken), RefreshToken: secret.NewText(tokens.RefreshToken)},
	})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.HTTPClient(connection.ID).Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %s: %s", connection.State, resp.Status, answer)
	// Output: active, 200 OK: three photos
}

// Asks for a token of a connection whose owner has ended the grant.
func ExampleReauthorizationError() {
	server, err := startServer()
	if err != nil {
		log.Fatal(err)
	}
	defer server.stop()
	tokens, err := server.grant()
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client := &evergrant.Client{Server: server.URL, Token: secret.NewText(adminToken)}
	_, err = client.CreateConnection(ctx, evergrant.NewConnection{
		ID: "photos-of-alice", Provider: "photos", Owner: "alice",
		Tokens: evergrant.Tokens{RefreshToken: secret.NewText(tokens.RefreshToken)},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.DeleteUser(ctx, "alice"); err != nil { // the provider is the same server here
		log.Fatal(err)
	}

	_, err = client.AccessToken(ctx, "photos-of-alice", evergrant.TokenOptions{Force: true})
	if dead, ok := errors.AsType[*evergrant.ReauthorizationError](err); ok {
		fmt.Println(dead.Cause)
		fmt.Println("there is a page to connect again:", dead.ConnectURL != "")
	}
	// Output:
	// revoked
	// there is a page to connect again: true
}

// Gives tokens to a library that takes them as golang.org/x/oauth2 has them.
func ExampleClient_TokenSource() {
	server, err := startServer()
	if err != nil {
		log.Fatal(err)
	}
	defer server.stop()
	tokens, err := server.grant()
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client := &evergrant.Client{Server: server.URL, Token: secret.NewText(adminToken)}
	_, err = client.CreateConnection(ctx, evergrant.NewConnection{
		ID: "photos-of-alice", Provider: "photos", Owner: "alice",
		Tokens: evergrant.Tokens{RefreshToken: secret.NewText(tokens.RefreshToken)},
	})
	if err != nil {
		log.Fatal(err)
	}

	token, err := client.TokenSource(ctx, "photos-of-alice").Token()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Type(), token.Valid())
	// Output: Bearer true
}
