package main

import (
	"crypto/rand"
	"net/http"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
	"golang.org/x/crypto/bcrypt"
)

// newFosite is fosite with its example memory store, opaque HMAC tokens and no
// more handlers than the benchmark needs. Secrets are hashed with its default,
// bcrypt at cost 12.
func newFosite(c credentials) (*http.ServeMux, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(c.clientSecret), fosite.DefaultBCryptWorkFactor)
	if err != nil {
		return nil, err
	}
	memory := storage.NewMemoryStore()
	memory.Clients[publicClient] = &fosite.DefaultClient{
		ID: publicClient, Public: true, GrantTypes: []string{"password", "refresh_token"}, Scopes: []string{scope},
	}
	memory.Clients[serviceClient] = &fosite.DefaultClient{
		ID: serviceClient, Secret: hash, GrantTypes: []string{"client_credentials"}, Scopes: []string{scope},
	}
	memory.Users[username] = storage.MemoryUserRelation{Username: username, Password: c.password}
	config := &fosite.Config{
		GlobalSecret:       key,
		RefreshTokenScopes: []string{}, // every grant gets a refresh token
	}
	provider := compose.Compose(config, memory, compose.NewOAuth2HMACStrategy(config),
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2ResourceOwnerPasswordCredentialsFactory,
		compose.OAuth2TokenIntrospectionFactory,
	)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", tokenEndpoint(provider))
	mux.HandleFunc("POST /oauth/introspect", introspectionEndpoint(provider))
	return mux, nil
}

func tokenEndpoint(provider fosite.OAuth2Provider) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		request, err := provider.NewAccessRequest(ctx, r, &fosite.DefaultSession{})
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		if request.GetGrantTypes().HasOneOf("password", "client_credentials") {
			for _, s := range request.GetRequestedScopes() {
				request.GrantScope(s)
			}
		}
		response, err := provider.NewAccessResponse(ctx, request)
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		provider.WriteAccessResponse(ctx, w, request, response)
	}
}

func introspectionEndpoint(provider fosite.OAuth2Provider) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		response, err := provider.NewIntrospectionRequest(ctx, r, &fosite.DefaultSession{})
		if err != nil {
			provider.WriteIntrospectionError(ctx, w, err)
			return
		}
		provider.WriteIntrospectionResponse(ctx, w, response)
	}
}
