// Package issuer is an OAuth 2 authorization server that keeps one row per
// grant and derives every token from it.
//
// A [Server] is an http.Handler for the authorization, token, revocation,
// introspection, metadata and JWKS endpoints. What it persists stands behind
// [Store]; how the resource owner is asked stands behind [Config].AskOwner.
//
// A reader who wants to know how a refresh is decided starts at refresh.go.
//
// Until version 1 names may still change; see CHANGELOG.md.
package issuer
