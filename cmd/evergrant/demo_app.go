package main

import (
	"context"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// randomText is random bytes in base64url.
func randomText(bytes int) string {
	return base64.RawURLEncoding.EncodeToString(secret.Bytes(bytes))
}

// app is the application of the demo. In the browser flow it is the client
// TestClient: one page, to which the browser comes back, shows how the code is
// redeemed. Beside that it hears webhooks.
type app struct {
	issuer   string
	listener net.Listener
	verifier string // of the authorization request that the demo prints
	hooks    *receiver
}

// callbackPath is registered as a redirect URI without a port, which an
// application on the owner's device may choose (RFC 8252 section 7.3).
const callbackPath = "/callback"

func newApp(now func() time.Time) (*app, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &app{listener: listener, verifier: newVerifier(), hooks: &receiver{secret: demoHookSecret, now: now}}, nil
}

// redirect is the redirect URI.
func (a *app) redirect() string { return "http://" + a.listener.Addr().String() + callbackPath }

// hook is the URL of the webhook.
func (a *app) hook() string { return "http://" + a.listener.Addr().String() + hooksPath }

// run serves until the context ends.
func (a *app) run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, a.serveCallback)
	mux.Handle("POST "+hooksPath, a.hooks)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	return server.Serve(a.listener)
}

var callbackPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>Back at the client</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid;padding:1rem}</style>
<h1>Back at the client</h1>
{{if .Code}}<p>This page stands for the application TestClient. The browser brought it an authorization code.
It works once and for five minutes, and only with the verifier that belongs to it. Paste this to redeem it:</p>
<pre>{{.Command}}</pre>
{{else}}<p>The browser brought no code, but: <strong>{{.Error}}</strong></p>
{{end}}</html>
`))

func (a *app) serveCallback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	page := struct{ Code, Command, Error string }{Code: query.Get("code"), Error: query.Get("error") + ": " + query.Get("error_description")}
	req, err := form(r.Context(), a.issuer+issuer.TokenPath, testClient, "grant_type", oauth.GrantAuthorizationCode,
		"code", page.Code, "redirect_uri", a.redirect(), "code_verifier", a.verifier)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	page.Command = strings.Join(curl(req), " ")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	_ = callbackPage.Execute(w, page) // a browser that has gone needs no page
}
