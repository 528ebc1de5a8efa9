// Package evergrant is the Go client of a running Evergrant server.
//
// Evergrant keeps OAuth 2 grants alive, at both ends: no grant is ever lost,
// and no stolen one survives.
//
//   - The issuer is an authorization server. It keeps one row per grant, rotates
//     refresh tokens without logging a client out because an answer was lost,
//     and revokes a grant whose token was used twice. As a library it is package
//     [github.com/evergrant/evergrant/issuer], on a database such as
//     [github.com/evergrant/evergrant/store/sqlite].
//   - The keeper is the other end: it keeps the tokens that an application got
//     from third parties, and renews them ahead of their expiry. A program uses
//     what it keeps by [Client.HTTPClient], whose requests carry a fresh token,
//     or by [Client.TokenSource] and [Client.AccessToken]. As a library it is
//     package [github.com/evergrant/evergrant/keeper], on what package
//     [github.com/evergrant/evergrant/provider] knows of third parties.
//   - [github.com/evergrant/evergrant/oauth] has the words that both share, and
//     [github.com/evergrant/evergrant/secret] what must not leak.
//   - The command evergrant serves all of it and administers it through the
//     [Client] of this package. docs/KEEPER.md and README.md begin with it.
//
// Until version 1 names may still change; see CHANGELOG.md.
package evergrant
