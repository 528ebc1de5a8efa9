package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

func (t *tour) issue(ctx context.Context) error {
	e, err := t.post(ctx, testClient, issuer.TokenPath, "grant_type", oauth.GrantPassword, "username", demoUsername, "password", demoPassword)
	if err != nil {
		return err
	}
	t.first = decode[oauth.TokenResponse](e)
	t.newest = t.first
	whole := e.status == http.StatusOK && t.first.AccessToken != "" && t.first.RefreshToken != "" && t.first.TokenType == oauth.Bearer && t.first.ExpiresIn > 0
	t.promise(whole, "the client gets an access token and a refresh token",
		"%s, %s %s for %d s, %s", e.outcome(), t.first.TokenType, t.first.AccessToken, t.first.ExpiresIn, t.first.RefreshToken)
	t.promise(t.first.Scope == demoScope, "a request without scope gets all of the client's, and is told so", "scope is %q", t.first.Scope)
	caching := e.header.Get("Cache-Control")
	t.promise(caching == "no-store", "no cache may keep the answer", "Cache-Control: %s", caching)
	grant, err := t.explained(ctx, t.first.RefreshToken)
	t.grant = grant.ID
	return err
}

func (t *tour) refresh(ctx context.Context) error {
	before := t.newest
	e, after, err := t.refreshWith(ctx, before.RefreshToken)
	if err != nil {
		return err
	}
	t.newest = after
	t.promise(after.RefreshToken != "" && after.RefreshToken != before.RefreshToken, "the client gets a new refresh token",
		"%s, %s became %s", e.outcome(), before.RefreshToken, after.RefreshToken)
	t.promise(after.AccessToken != "" && after.AccessToken != before.AccessToken, "and a new access token", "%s became %s", before.AccessToken, after.AccessToken)
	t.promise(after.Scope == demoScope, "the scope stays as it was granted", "scope is %q", after.Scope)
	return nil
}

// racers is how many requests are sent at once.
const racers = 20

func (t *tour) race(ctx context.Context) error {
	before, err := t.stored(ctx)
	if err != nil {
		return err
	}
	all, err := t.atOnce(ctx, t.newest.RefreshToken)
	if err != nil {
		return err
	}
	t.out.command(slices.Concat([]string{"for i in $(seq 20); do"}, all[0].curl, []string{"& done; wait"})...)
	t.out.block(fmt.Sprintf("%d answers came; this is one of them:", len(all)))
	t.out.answer(all[0])
	answered, access, refresh := 0, map[string]bool{}, map[string]bool{}
	for _, e := range all {
		tokens := decode[oauth.TokenResponse](e)
		access[tokens.AccessToken], refresh[tokens.RefreshToken] = true, true
		if e.status == http.StatusOK {
			answered, t.newest = answered+1, tokens
		}
	}
	after, err := t.stored(ctx)
	if err != nil {
		return err
	}
	if err := t.showGrant(after); err != nil {
		return err
	}
	t.promise(answered == racers, "every request is answered with tokens", "%d of %d got 200", answered, racers)
	t.promise(len(refresh) == 1, "all answers have the same refresh token", "%d different among %d: %s", len(refresh), racers, t.newest.RefreshToken)
	t.promise(len(access) == 1, "and the same access token, byte for byte", "%d different among %d: %s", len(access), racers, t.newest.AccessToken)
	t.promise(after.Generation == before.Generation+1, "there is one chain: the grant moved by one generation", "from %d to %d", before.Generation, after.Generation)
	return nil
}

// atOnce sends the same refresh many times at once, each over a connection of
// its own.
func (t *tour) atOnce(ctx context.Context, token string) ([]exchange, error) {
	all, errs := make([]exchange, racers), make([]error, racers)
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range racers {
		running.Go(func() {
			req, err := form(ctx, t.base+issuer.TokenPath, testClient, "grant_type", oauth.GrantRefreshToken, "refresh_token", token)
			if err != nil {
				errs[i] = err
				return
			}
			<-start
			all[i], errs[i] = send(t.http, req)
		})
	}
	close(start)
	running.Wait()
	return all, errors.Join(errs...)
}

func (t *tour) loseAnswer(ctx context.Context) error {
	before, err := t.stored(ctx)
	if err != nil {
		return err
	}
	req, err := form(ctx, t.base+issuer.TokenPath, testClient, "grant_type", oauth.GrantRefreshToken, "refresh_token", t.newest.RefreshToken)
	if err != nil {
		return err
	}
	lost, seen, err := sendAndCut(t.http.Timeout, req)
	t.out.command(lost.curl...)
	t.out.block("→ connection cut, no answer: " + seen)
	if err != nil {
		return err
	}
	was := decode[oauth.TokenResponse](lost)
	t.out.aside("The client does what every client should: it asks again.")
	e, again, err := t.refreshWith(ctx, t.newest.RefreshToken)
	if err != nil {
		return err
	}
	t.newest = again
	after, err := t.stored(ctx)
	if err != nil {
		return err
	}
	t.promise(lost.status == http.StatusOK && was.RefreshToken != "", "the server answered, and the client saw nothing of it",
		"the server sent %s in %d bytes, the client saw: %s", statusLine(lost.status), len(lost.body), seen)
	t.promise(e.status == http.StatusOK && again.RefreshToken == was.RefreshToken, "the retry gets the lost refresh token, byte for byte",
		"%s, lost %s, got %s", e.outcome(), was.RefreshToken, again.RefreshToken)
	t.promise(e.status == http.StatusOK && again.AccessToken == was.AccessToken, "and the lost access token, byte for byte",
		"lost %s, got %s", was.AccessToken, again.AccessToken)
	t.promise(after.Generation == before.Generation+1, "the two requests cost one generation", "from %d to %d", before.Generation, after.Generation)
	return nil
}

func (t *tour) narrow(ctx context.Context) error {
	e, narrowed, err := t.refreshWith(ctx, t.newest.RefreshToken, "scope", "read")
	if err != nil {
		return err
	}
	inside, _ := claims(narrowed.AccessToken)
	t.promise(narrowed.Scope == "read" && inside == "read", "the access token is narrowed",
		"%s, the answer says %q and the token itself %q", e.outcome(), narrowed.Scope, inside)

	e, _, err = t.refreshWith(ctx, narrowed.RefreshToken, "scope", demoScope+" admin")
	if err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidScope), "more than was granted is refused", "%s", e.outcome())

	e, t.newest, err = t.refreshWith(ctx, narrowed.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(e.status == http.StatusOK, "the refusal spent nothing: the same refresh token still works", "%s", e.outcome())
	inside, _ = claims(t.newest.AccessToken)
	t.promise(t.newest.Scope == demoScope && inside == demoScope, "the refresh token has kept the whole scope",
		"the answer says %q and the token itself %q", t.newest.Scope, inside)
	return nil
}

func (t *tour) introspect(ctx context.Context) error {
	seen, err := t.introspected(ctx, t.newest.AccessToken)
	if err != nil {
		return err
	}
	t.promise(seen.Active, "the newest access token is active", "active is %t", seen.Active)
	t.promise(seen.ClientID == demoClient && seen.Username == demoUsername && seen.Scope == demoScope, "the resource server learns for whom it acts, and what it may do",
		"client_id %q, username %q, scope %q", seen.ClientID, seen.Username, seen.Scope)
	return nil
}

func (t *tour) clientCredentials(ctx context.Context) error {
	before, err := t.grants(ctx)
	if err != nil {
		return err
	}
	e, err := t.post(ctx, testClient, issuer.TokenPath, "grant_type", oauth.GrantClientCredentials)
	if err != nil {
		return err
	}
	after, err := t.grants(ctx)
	if err != nil {
		return err
	}
	tokens := decode[oauth.TokenResponse](e)
	_, subject := claims(tokens.AccessToken)
	t.promise(e.status == http.StatusOK && subject == demoClient, "the client gets an access token in its own name", "%s, subject %q", e.outcome(), subject)
	t.promise(e.status == http.StatusOK && tokens.RefreshToken == "", "it gets no refresh token, as it needs none", "refresh_token %q", tokens.RefreshToken)
	t.promise(len(after) == len(before), "nothing is stored for it", "grants before: %d, after: %d", len(before), len(after))
	return nil
}

// grants are the ids of all grants.
func (t *tour) grants(ctx context.Context) ([]string, error) {
	var ids []string
	for grant, err := range t.admin.Grants(ctx, evergrant.GrantFilter{}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, grant.ID)
	}
	return ids, nil
}

func (t *tour) theft(ctx context.Context) error {
	before, err := t.stored(ctx)
	if err != nil {
		return err
	}
	e, _, err := t.refreshWith(ctx, t.first.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidGrant), "the thief gets nothing", "%s", e.outcome())
	if err := t.findTheft(ctx, before); err != nil {
		return err
	}
	t.out.aside("The owner's client comes next, with tokens that were good a moment ago.")
	e, _, err = t.refreshWith(ctx, t.newest.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidGrant), "the newest refresh token is dead too", "%s", e.outcome())
	seen, err := t.introspected(ctx, t.newest.AccessToken)
	if err != nil {
		return err
	}
	t.promise(!seen.Active, "the newest access token is inactive at once", "active is %t", seen.Active)
	return t.explainTheft(ctx)
}

// findTheft shows the event of the theft on a grant as it was before.
func (t *tour) findTheft(ctx context.Context, before evergrant.Grant) error {
	t.out.aside("An operator finds it in the events:")
	var found []evergrant.Event
	for event, err := range t.admin.Events(ctx, evergrant.EventFilter{Grant: t.grant, Type: issuer.EventReuseDetected}) {
		if err != nil {
			return err
		}
		found = append(found, event)
	}
	err := t.command(func(in *invocation) error { return in.printJSON(found) },
		"event", "list", "--json", "--grant "+t.grant, "--type "+issuer.EventReuseDetected)
	if err != nil {
		return err
	}
	var event evergrant.Event
	if len(found) > 0 {
		event = found[0]
	}
	t.promise(len(found) == 1 && event.Type == issuer.EventReuseDetected && event.ClientID == demoClient, "the theft is one event",
		"found: %d, type %q, client %q", len(found), event.Type, event.ClientID)
	t.promise(event.Address != "", "it says from where the token came", "address %q", event.Address)
	told := strings.Contains(event.Detail, "generation 1 ") && strings.HasSuffix(event.Detail, " "+generation(before))
	t.promise(told, "and of which generation it was", "the grant was at %s: %q", generation(before), event.Detail)
	return nil
}

func (t *tour) explainTheft(ctx context.Context) error {
	e, err := t.admin.Explain(ctx, secret.NewText(t.grant))
	if err != nil {
		return err
	}
	if err := t.command(func(in *invocation) error { return in.showExplanation(e) }, "explain", t.grant); err != nil {
		return err
	}
	because := ""
	if e.Grant != nil {
		because = e.Grant.RevokedCause
	}
	t.promise(!e.Alive && because == string(issuer.CauseRefreshTokenReused) && e.Repair != "", "evergrant explain says why the grant is dead, and what repairs it",
		"alive is %t, %s, because of %q", e.Alive, e.Cause, because)
	return nil
}

func (t *tour) revoke(ctx context.Context) error {
	e, err := t.post(ctx, testClient, issuer.TokenPath, "grant_type", oauth.GrantPassword, "username", demoUsername, "password", demoPassword)
	if err != nil {
		return err
	}
	tokens := decode[oauth.TokenResponse](e)
	before, err := t.introspected(ctx, tokens.AccessToken)
	if err != nil {
		return err
	}
	e, err = t.post(ctx, testClient, issuer.RevokePath, "token", tokens.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(e.status == http.StatusOK, "the revocation is acknowledged", "%s", e.outcome())
	after, err := t.introspected(ctx, tokens.AccessToken)
	if err != nil {
		return err
	}
	t.promise(before.Active && !after.Active, "the access token is inactive at once", "active was %t before, and is %t", before.Active, after.Active)
	e, _, err = t.refreshWith(ctx, tokens.RefreshToken)
	if err != nil {
		return err
	}
	t.promise(e.refused(oauth.InvalidGrant), "the refresh token is refused", "%s", e.outcome())
	return nil
}
