package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant"
)

func (t *tour) connectAll(ctx context.Context) error {
	if err := t.follow(ctx); err != nil {
		return err
	}
	if err := t.connectWithoutOwner(ctx); err != nil {
		return err
	}
	if err := t.connectInBrowser(ctx); err != nil {
		return err
	}
	if err := t.importCrowd(ctx); err != nil {
		return err
	}
	t.out.aside("Each of them is asked at the provider's API who its owner is, as the line for Tink above does:")
	answered, err := t.callEach(ctx)
	t.promise(answered == len(t.owners()), "all connections are alive: the providers' APIs take their tokens", "%d of %d calls were answered", answered, len(t.owners()))
	return err
}

// connectWithoutOwner makes the connections that need no browser and no tokens.
func (t *tour) connectWithoutOwner(ctx context.Context) error {
	e, err := t.call(ctx, http.MethodPost, "/v1/connections", map[string]string{"id": onFlexiti, "provider": "flexiti"})
	if err != nil {
		return err
	}
	made := decode[evergrant.Connection](e)
	t.promise(e.status == http.StatusCreated && made.State == evergrant.ConnectionActive, "Flexiti needs no owner: the app itself is connected, with nothing to begin with",
		"%s, state %q", e.outcome(), made.State)

	t.tink.Connect("alice") // she has an account there, which this app may use
	e, err = t.call(ctx, http.MethodPost, "/v1/connections", map[string]string{"id": onTink, "provider": "tink", "owner": "alice"})
	if err != nil {
		return err
	}
	made = decode[evergrant.Connection](e)
	t.promise(e.status == http.StatusCreated && made.State == evergrant.ConnectionActive, "at Tink the app names its user, and she is connected without a browser",
		"%s, state %q", e.outcome(), made.State)
	if e, err = t.call(ctx, http.MethodGet, proxyPath(onTink), nil); err != nil {
		return err
	}
	t.promise(e.whose() == "alice", "the proxy calls Tink's API for her, and the application never sees a token", "%s, the owner is %q", e.outcome(), e.whose())
	return nil
}

// connectInBrowser has an owner connect at Eventix.
func (t *tour) connectInBrowser(ctx context.Context) error {
	t.out.aside("At Eventix the owner has to consent. The application asks for a page to which it sends his browser:")
	e, err := t.call(ctx, http.MethodPost, "/v1/connect-sessions", map[string]string{"provider": "eventix", "connection": onEventix, "owner": "bob"})
	if err != nil {
		return err
	}
	session := decode[evergrant.ConnectSession](e)
	begun := e.status == http.StatusCreated && strings.HasPrefix(session.URL, t.base+"/connect/") && session.Connection == onEventix
	t.promise(begun, "the application gets a link for its user", "%s, for connection %q", e.outcome(), session.Connection)
	if !begun {
		return fmt.Errorf("there is no link to follow: %s", e.outcome())
	}
	first, last, err := t.walk(ctx, session.URL)
	if err != nil {
		return err
	}
	t.promise(first.status == http.StatusOK && strings.Contains(first.title(), "Connect"), "he is told what it is about before he is sent to Eventix", "%s, the page is %q", statusLine(first.status), first.title())
	c, err := t.admin.Connection(ctx, onEventix)
	if err != nil {
		return err
	}
	back := last.status == http.StatusOK && strings.Contains(last.title(), "is connected")
	t.promise(back && c.State == evergrant.ConnectionActive && c.Owner == "bob", "he consents there, comes back, and is connected",
		"%s, the page is %q, the connection is %s of %q", statusLine(last.status), last.title(), c.State, c.Owner)
	return nil
}

// importCrowd gives the server the tokens that an application had until now. The
// first ones live for different times, so that not all are due at once.
func (t *tour) importCrowd(ctx context.Context) error {
	t.out.aside("A hundred users have connected long ago. The application hands over the tokens that it has kept until now:")
	made := 0
	for i := range t.crowd {
		id, owner := inCrowd(i + 1)
		setLife(t.eventix, time.Duration(4+i%3)*time.Second)
		_, tokens := t.eventix.Connect(owner)
		request := map[string]any{"id": id, "provider": "eventix", "owner": owner, "tokens": map[string]any{
			"access_token": tokens.AccessToken.Reveal(), "refresh_token": tokens.RefreshToken.Reveal(), "expires_at": tokens.ExpiresAt,
		}}
		send := t.call
		if i > 0 {
			send = func(ctx context.Context, method, path string, document any) (exchange, error) {
				return t.ask(ctx, t.admin, method, path, document)
			}
		}
		e, err := send(ctx, http.MethodPost, "/v1/connections", request)
		if err != nil {
			return err
		}
		if e.status == http.StatusCreated && decode[evergrant.Connection](e).ID == id {
			made++
		}
	}
	setLife(t.eventix, outageLife)
	t.promise(made == t.crowd, "each becomes a connection that the keeper keeps fresh from now on", "%d of %d were made", made, t.crowd)
	return nil
}

// callEach calls the API of each connection's provider once, some at a time, and
// counts whose owner was told.
func (t *tour) callEach(ctx context.Context) (answered int, err error) {
	all := t.owners()
	var mu sync.Mutex
	var calling sync.WaitGroup
	for part := range slices.Chunk(slices.Sorted(maps.Keys(all)), (len(all)+3)/4) {
		calling.Go(func() {
			for _, id := range part {
				e, failed := t.ask(ctx, t.admin, http.MethodGet, proxyPath(id), nil)
				mu.Lock()
				err = errors.Join(err, failed)
				if e.whose() == all[id] {
					answered++
				}
				mu.Unlock()
			}
		})
	}
	calling.Wait()
	return answered, err
}
