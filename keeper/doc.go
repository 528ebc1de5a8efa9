// Package keeper holds the tokens that an application got from third-party
// providers, one connection for each owner's grant, and keeps them fresh: ahead
// of expiry, across replicas and crashes, without ever losing a refresh token
// that can be used once only.
//
// A [Keeper] gives live access tokens ([Keeper.Token], [Keeper.Client]) and works
// in the background ([Keeper.Run]). What it persists stands behind [Store], what
// it knows of providers is data of package provider.
//
// A reader who wants to know how a refresh survives a crash starts at refresh.go,
// and goes on to resolve.go, where what was broken off is brought to its end. When
// something is done stands in schedule.go; how much at once, in budget.go; and
// what happens while a provider is down, in breaker.go.
//
// Until version 1 names may still change; see CHANGELOG.md.
package keeper
