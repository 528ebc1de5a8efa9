package main

import (
	"context"
	"crypto/subtle"
	"net/http"

	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
)

// newGoOAuth2 is go-oauth2 with its defaults: opaque tokens, rotation of the
// refresh token, and its own store on buntdb in memory. It has no
// introspection endpoint.
func newGoOAuth2(c credentials) (*http.ServeMux, error) {
	clients := store.NewClientStore()
	for _, client := range []*models.Client{
		{ID: publicClient, Public: true},
		{ID: serviceClient, Secret: c.clientSecret},
	} {
		if err := clients.Set(client.ID, client); err != nil {
			return nil, err
		}
	}
	tokens, err := store.NewMemoryTokenStore()
	if err != nil {
		return nil, err
	}
	manager := manage.NewDefaultManager()
	manager.MapTokenStorage(tokens)
	manager.MapClientStorage(clients)

	srv := server.NewServer(server.NewConfig(), manager)
	srv.SetClientInfoHandler(func(r *http.Request) (string, string, error) {
		if _, _, ok := r.BasicAuth(); ok {
			return server.ClientBasicHandler(r)
		}
		return server.ClientFormHandler(r)
	})
	srv.SetPasswordAuthorizationHandler(func(_ context.Context, _, user, password string) (string, error) {
		if user != username || subtle.ConstantTimeCompare([]byte(password), []byte(c.password)) != 1 {
			return "", errors.ErrInvalidGrant
		}
		return user, nil
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, r *http.Request) {
		// An error here means that the answer could not be written.
		_ = srv.HandleTokenRequest(w, r)
	})
	return mux, nil
}
