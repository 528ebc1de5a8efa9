package main

import (
	"net/http"
	"strings"
)

// newEcho is the floor: net/http, a parsed form and an answer of a token
// response's size, with no authorization server in between.
func newEcho(credentials) (*http.ServeMux, error) {
	answer := []byte(`{"access_token":"` + strings.Repeat("a", 128) + `","token_type":"Bearer","expires_in":3600,` +
		`"refresh_token":"` + strings.Repeat("r", 64) + `","scope":"read","refresh_token_expires_in":1209600}` + "\n")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") == "" {
			http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(answer)
	})
	return mux, nil
}
