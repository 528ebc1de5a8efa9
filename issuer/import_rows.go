package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// importing is one batch on its way.
type importing struct {
	*Admin
	Import
	actor    Actor
	batch    Batch
	report   ImportReport
	clients  map[string]Client // of the batch and of the tokens, as they are or will be
	unhashed []int             // clients of the batch whose secret is to be hashed, by their places
	secrets  []secret.Text     // theirs
	unknown  map[string]bool   // scopes
}

// client adds a client to the batch. What of it cannot be had here is left out
// and told, so that its tokens live on.
func (i *importing) client(ctx context.Context, c ImportClient) error {
	now, public := i.batch.Event.At, c.Secret.Empty() && c.Verifier == ""
	client := Client{
		ID: c.ID, Name: c.Name, Trusted: c.Trusted && !public, Profile: i.Profile,
		Foreign: i.Source, CreatedAt: now, UpdatedAt: now,
	}
	client.Imported = i.origin(c.ID, c.Name, c.Secret.Reveal(), string(c.Verifier), fmt.Sprintf("%q", c.RedirectURIs),
		fmt.Sprintf("%q", c.GrantTypes), fmt.Sprintf("%q", c.Scopes), fmt.Sprint(c.Trusted), i.Profile)
	if !validText(c.Name) || len(c.Name) > maxIDLength {
		client.Name = ""
		i.part(c.ID, "without its name, which is longer than 255 bytes or has control characters")
	}
	i.redirects(&client, c.RedirectURIs)
	i.grantTypes(&client, c.GrantTypes, public)
	if !i.scopes(&client, c.Scopes) {
		i.skip("client", c.ID, errors.New("none of its scopes can be had here, and a client without scopes may have all"))
		return nil
	}
	old, err := i.server.cfg.Store.Client(ctx, c.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	hash := false
	switch {
	case public:
	case err == nil && old.Imported == client.Imported:
		client.Secrets = old.Secrets // to hash it again would be for nothing
	case c.Verifier != "":
		client.Secrets = []secret.Verifier{c.Verifier}
	default:
		client.Secrets, hash = []secret.Verifier{secret.Slow()}, !i.DryRun
	}
	if err := client.Check(); err != nil {
		i.skip("client", c.ID, err)
		return nil
	}
	if hash {
		i.unhashed, i.secrets = append(i.unhashed, len(i.batch.Clients)), append(i.secrets, c.Secret)
	}
	i.batch.Clients = append(i.batch.Clients, client)
	if err != nil || old.Imported.Source == i.Source { // any other is kept as it is
		i.clients[c.ID] = client
	}
	return nil
}

func (i *importing) redirects(client *Client, uris []string) {
	for _, uri := range uris {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			i.part(client.ID, "without one of its redirect URIs: "+strings.TrimPrefix(err.Error(), "redirect URI "+uri+": "))
			continue
		}
		client.RedirectURIs = append(client.RedirectURIs, uri)
	}
}

func (i *importing) grantTypes(client *Client, grantTypes []string, public bool) {
	if len(grantTypes) == 0 {
		client.GrantTypes = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	}
	for _, grantType := range grantTypes {
		switch err := (Client{ID: "c", GrantTypes: []string{grantType}, Secrets: []secret.Verifier{secret.Slow()}}).Check(); {
		case err != nil:
			i.part(client.ID, fmt.Sprintf("without the grant type %q, which is not known here", grantType))
		case public && grantType == oauth.GrantClientCredentials:
			i.part(client.ID, "without the grant type client_credentials, which needs a secret")
		default:
			client.GrantTypes = append(client.GrantTypes, grantType)
		}
	}
}

// scopes reports whether any of the client's scopes is left, or there were none.
// The reserved ones open what the other server never had.
func (i *importing) scopes(client *Client, scopes oauth.Scope) bool {
	for _, token := range scopes {
		parsed, err := oauth.ParseScope(token)
		switch {
		case err != nil || len(parsed) != 1:
			i.part(client.ID, "without a scope that has characters which RFC 6749 section 3.3 does not allow")
		case i.reserved(parsed) != "":
			i.part(client.ID, "without the scope "+token+", which is reserved here")
		case !slices.Contains(client.Scopes, token):
			client.Scopes = append(client.Scopes, token)
		}
	}
	i.note(client.Scopes)
	return len(client.Scopes) > 0 || len(scopes) == 0
}

// reserved is a scope among those of a set that is reserved, or "".
func (i *importing) reserved(scope oauth.Scope) string {
	for _, token := range scope {
		if _, reserved := i.server.cfg.Reserved[token]; reserved {
			return token
		}
	}
	return ""
}

// note remembers which scopes the server does not know.
func (i *importing) note(scope oauth.Scope) {
	for _, token := range scope {
		if _, known := i.server.cfg.Scopes[token]; !known {
			i.unknown[token] = true
		}
	}
}

// hash makes the verifiers of secrets that came in clear, on all processors, and
// lets sign-ins have their turn in between.
func (i *importing) hash(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	for n, place := range i.unhashed {
		select {
		case i.server.hashing <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		work.Go(func() {
			defer func() { <-i.server.hashing }()
			i.batch.Clients[place].Secrets[0] = secret.NewVerifier(i.secrets[n])
		})
	}
	return nil
}

// user adds a user to the batch.
func (i *importing) user(u ImportUser) {
	user := User{Username: u.Username, Password: u.Password, Info: u.Info, CreatedAt: i.batch.Event.At, UpdatedAt: i.batch.Event.At}
	user.Imported = i.origin(u.Username, string(u.Password), string(u.Info))
	if err := user.Check(); err != nil {
		i.skip("user", u.Username, err)
		return
	}
	i.batch.Users = append(i.batch.Users, user)
}

// token adds the grant of a token to the batch. The grant's absolute end counts
// from now: who knows when the other server's owner agreed.
func (i *importing) token(ctx context.Context, n int, t ImportToken) error {
	grant, err := i.grant(t)
	i.report.IDs[n] = grant.ID
	var client Client
	if err == nil {
		client, err = i.clientOf(ctx, t.ClientID)
	}
	if err == nil {
		var ended bool
		if ended, err = i.maybeEnded(ctx, client, t, grant.ID); ended {
			err = skipReason(ImportEnded)
		}
	}
	if reason, skipped := errors.AsType[skipReason](err); skipped {
		i.skip("token", "of client "+t.ClientID+", user "+orClient(t), reason)
		return nil
	}
	if err != nil {
		return err
	}
	grant.EndsAt = i.server.cfg.PolicyOf(client).GrantLifetime.After(i.batch.Event.At)
	grant.ExpiresAt = capped(grant.ExpiresAt, grant.EndsAt)
	if t.Access {
		grant.AccessExpiresAt = grant.ExpiresAt
	}
	i.batch.Grants = append(i.batch.Grants, grant)
	i.note(t.Scope)
	return nil
}

// skipReason is why a token is skipped.
type skipReason string

func (r skipReason) Error() string { return string(r) }

// clientOf is the client of a token, which is expected to send such tokens from
// now on.
func (i *importing) clientOf(ctx context.Context, id string) (Client, error) {
	client, known := i.clients[id]
	if !known {
		cached, err := i.server.clients.get(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound) && i.DryRun: // a real run creates it before
			client.Foreign = i.Source
		case errors.Is(err, ErrNotFound):
			return client, skipReason(ImportNoClient)
		case err != nil:
			return client, err
		default:
			client = cached.Client
		}
		if client.Foreign == "" && !i.DryRun {
			if client, err = i.adopt(ctx, id); err != nil {
				return client, err
			}
		}
		i.clients[id] = client
	}
	if client.Foreign != i.Source && client.Foreign != "" {
		return client, skipReason("its client here came from another server, " + client.Foreign)
	}
	return client, nil
}

// adopt lets a client that was here before the import send tokens of the source.
func (i *importing) adopt(ctx context.Context, id string) (Client, error) {
	if i.Registry != nil {
		i.Registry.Lock()
		defer i.Registry.Unlock()
	}
	client, err := i.server.cfg.Store.Client(ctx, id)
	if err != nil || client.Foreign != "" {
		return client, err
	}
	client.Foreign = i.Source
	event := i.event(i.actor, EventClientSaved)
	event.ClientID, event.Detail = id, "may send tokens of "+i.Source
	err = i.server.cfg.Store.PutClient(ctx, client, event)
	i.server.clients.forget(id)
	return client, err
}

// grant is that of a token, with its id whatever else is wrong. The error is a
// skipReason.
func (i *importing) grant(t ImportToken) (Grant, error) {
	now := i.batch.Event.At
	issued := t.IssuedAt.UTC().Truncate(time.Millisecond)
	if t.IssuedAt.IsZero() || issued.After(now) {
		issued = now
	}
	g := Grant{ClientID: t.ClientID, Subject: orClient(t), Scope: t.Scope, Generation: 1, CreatedAt: issued, RotatedAt: issued}
	kind := secret.ForeignRefresh
	if t.Access {
		kind = secret.ForeignAccess
	}
	if !t.ExpiresAt.IsZero() {
		g.ExpiresAt = t.ExpiresAt.UTC().Truncate(time.Millisecond)
	}
	if t.Token.Empty() {
		return g, skipReason("the token is empty")
	}
	g.ID = i.server.cfg.Keys.Foreign(kind, t.Token)
	scope, err := oauth.ParseScope(t.Scope.String())
	reserved := i.reserved(t.Scope)
	switch {
	case t.ClientID == "":
		return g, skipReason("it has no client")
	case ours(t.Token.Reveal()):
		return g, skipReason("it begins as a token of this server does")
	case !validText(g.Subject) || len(g.Subject) > maxIDLength:
		return g, skipReason("the user name is longer than 255 bytes or has control characters")
	case err != nil || !slices.Equal(scope, t.Scope):
		return g, skipReason("its scope has characters which RFC 6749 section 3.3 does not allow, or one token twice")
	case reserved != "":
		return g, skipReason("its scope " + reserved + " is reserved here")
	case t.ExpiresAt.IsZero() && t.Access:
		return g, skipReason("an access token that never expires is not taken over")
	case !t.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt):
		return g, skipReason(ImportExpired)
	}
	return g, nil
}

// orClient is the subject of a token.
func orClient(t ImportToken) string {
	if t.Subject == "" {
		return t.ClientID
	}
	return t.Subject
}

// origin digests what a row of the other server is. It is keyed, since secrets
// are part of it.
func (i *importing) origin(parts ...string) Origin {
	row := secret.NewText(fmt.Sprintf("%q", parts))
	return Origin{i.Source, GrantID(i.server.cfg.Keys.Foreign(secret.ForeignRow, row)).String()}
}

// part tells that something of a client was left out.
func (i *importing) part(client, what string) {
	i.report.Skipped = append(i.report.Skipped, ImportSkip{"client", client, what, true})
}

// skip tells that something was left out. The reason does not repeat its name, so
// that equal reasons are equal.
func (i *importing) skip(kind, name string, why error) {
	reason := why.Error()
	for _, bad := range []error{ErrBadClient, ErrBadUser} {
		reason = strings.TrimPrefix(reason, fmt.Sprintf("%v %q: ", bad, name))
	}
	i.report.Skipped = append(i.report.Skipped, ImportSkip{kind, name, reason, false})
}
