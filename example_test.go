package evergrant_test

import (
	"context"
	"fmt"
	"log"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
)

// Registers a client and a user, and lists the clients.
func ExampleClient() {
	server, err := startServer() // usually one that is running already
	if err != nil {
		log.Fatal(err)
	}
	defer server.stop()
	ctx := context.Background()
	admin := &evergrant.Client{Server: server.URL, Token: secret.NewText(adminToken)}

	client, generated, err := admin.CreateClient(ctx, evergrant.Registration{
		ID:                   "films",
		RedirectURIs:         []string{"https://films.example/callback"},
		RefreshTokenLifetime: "30d",
	}, evergrant.SecretChange{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.ID, client.GrantTypes, client.RefreshTokenLifetime)
	fmt.Println("secret:", generated, "of", len(generated.Reveal()), "characters")

	if _, err := admin.CreateUser(ctx, evergrant.User{Username: "bob"}, secret.NewText("builder")); err != nil {
		log.Fatal(err)
	}
	for client, err := range admin.Clients(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("client", client.ID)
	}
	// Output:
	// films [authorization_code refresh_token] 30d
	// secret: [redacted] of 47 characters
	// client films
	// client photos
}
