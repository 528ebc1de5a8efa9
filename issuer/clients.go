package issuer

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// registered is a client with the policy and the profile that hold for it.
type registered struct {
	Client
	policy  Policy
	profile *Profile
}

// refreshes reports whether the client gets refresh tokens at all.
func (c *registered) refreshes() bool {
	return c.Allows(oauth.GrantRefreshToken) || c.profile.RefreshTokenAlways
}

// clientCacheTTL bounds how long a replica may go on with what it knows of a
// client after another replica changed it. Changes in the same process hold at
// once.
const (
	clientCacheTTL  = time.Second
	clientCacheSize = 10_000
)

// clientCache spares a database read per request.
type clientCache struct {
	cfg Config

	mu      sync.RWMutex
	entries map[string]cachedClient
	changes int // counts forget, so that a read that began before a change is not kept
}

type cachedClient struct {
	client *registered
	until  time.Time
}

func newClientCache(cfg Config) *clientCache {
	return &clientCache{cfg: cfg, entries: map[string]cachedClient{}}
}

// get is the client with an id, or ErrNotFound. Unknown ids are not cached.
func (c *clientCache) get(ctx context.Context, id string) (*registered, error) {
	now := c.cfg.clock()
	c.mu.RLock()
	entry, changes := c.entries[id], c.changes
	c.mu.RUnlock()
	if entry.client != nil && now.Before(entry.until) {
		return entry.client, nil
	}
	client, err := c.cfg.Store.Client(ctx, id)
	if err != nil {
		return nil, err
	}
	found := &registered{client, c.cfg.PolicyOf(client), c.cfg.profileOf(client)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == changes {
		if len(c.entries) >= clientCacheSize {
			clear(c.entries)
		}
		c.entries[id] = cachedClient{found, now.Add(clientCacheTTL)}
	}
	return found, nil
}

func (c *clientCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, id)
	c.changes++
}

// verifiedSecrets remembers, under a key that lives as long as the process,
// secrets that a slow verifier has found right, so that a client whose secret a
// person chose does not cost 17 ms at every refresh. Wrong ones are never
// remembered.
type verifiedSecrets struct {
	key []byte
	mu  sync.RWMutex
	ok  map[[sha256.Size]byte]struct{}
}

const verifiedSecretsSize = 10_000

func newVerifiedSecrets() *verifiedSecrets {
	return &verifiedSecrets{key: secret.Bytes(32), ok: map[[sha256.Size]byte]struct{}{}}
}

func (v *verifiedSecrets) digest(verifier secret.Verifier, presented secret.Text) [sha256.Size]byte {
	h := hmac.New(sha256.New, v.key)
	h.Write([]byte(verifier))
	h.Write([]byte{0}) // no verifier contains it
	h.Write([]byte(presented.Reveal()))
	return [sha256.Size]byte(h.Sum(nil))
}

func (v *verifiedSecrets) has(verifier secret.Verifier, presented secret.Text) bool {
	digest := v.digest(verifier, presented)
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ok := v.ok[digest]
	return ok
}

func (v *verifiedSecrets) add(verifier secret.Verifier, presented secret.Text) {
	digest := v.digest(verifier, presented)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.ok) >= verifiedSecretsSize {
		clear(v.ok)
	}
	v.ok[digest] = struct{}{}
}

// authenticateClient finds and checks the client of a request (RFC 6749 section
// 3.2.1). A right secret passes whatever happened before it; only failures are
// throttled, so that nobody can lock a client out.
func (s *Server) authenticateClient(ctx context.Context, req *tokenRequest) (*registered, error) {
	auth, err := req.credentials()
	switch {
	case errors.Is(err, oauth.ErrNoClient), err == nil && auth.Method != oauth.AuthBasic && req.profile.HeaderOnly:
		return nil, refuse(CauseClientMissing)
	case errors.Is(err, oauth.ErrTwoMethods), errors.Is(err, oauth.ErrTwoAuthHeader):
		return nil, refuse(CauseClientAuthMethod)
	case errors.Is(err, oauth.ErrOtherClient):
		return nil, refuseBecause(CauseClientAuthMethod, "client_id in the body differs from the authenticated client.")
	case err != nil:
		return nil, refuseBecause(CauseClientMissing, "The Authorization header is not valid Basic credentials (RFC 6749 section 2.3.1).")
	}
	switch {
	case auth.Secret == "" && slices.Contains(req.profile.SecretFor, req.params.Get("grant_type")):
		return nil, refuse(CauseClientPublic)
	case len(auth.RawID) > maxIDLength:
		return nil, refuse(CauseClientUnknown)
	}
	req.actor = "client:" + oauth.Legal(auth.ID)
	client := req.client
	presented := []secret.Text{secret.NewText(auth.Secret)}
	if auth.RawSecret != auth.Secret {
		presented = append(presented, secret.NewText(auth.RawSecret))
	}
	if client != nil {
		req.actor = "client:" + client.ID
		switch {
		case client.Public() && auth.Secret != "" && req.profile.AnySecret:
			s.count(client.ID, HabitAnySecret)
			return client, nil
		case client.Public() && auth.Secret == "", s.quicklyVerified(client, presented):
			return client, nil
		}
	}
	return client, s.slowlyVerified(ctx, req, client, auth, presented)
}

// quicklyVerified checks what costs next to nothing: generated secrets, and
// chosen ones that were right before.
func (s *Server) quicklyVerified(client *registered, presented []secret.Text) bool {
	for _, text := range presented {
		for _, verifier := range client.Secrets {
			if secret.Generated(text) && verifier.Verify(text) || s.verified.has(verifier, text) {
				return true
			}
		}
	}
	return false
}

// slowlyVerified checks the rest at the same cost whether or not the client is
// known, and refuses.
func (s *Server) slowlyVerified(ctx context.Context, req *tokenRequest, client *registered, auth oauth.ClientAuth, presented []secret.Text) error {
	verifiers, cause := []secret.Verifier{secret.Slow()}, CauseClientSecretWrong
	switch {
	case auth.Secret == "":
		cause = CauseClientSecretMissing
	case client == nil:
		cause = CauseClientUnknown
	}
	if client != nil && !client.Public() {
		verifiers = client.Secrets
	}
	from := network(req.address)
	account := []limitedKey{{"client\x00" + auth.ID + "\x00" + from, perAccountLimit}, {"clients\x00" + from, perAddressLimit}}
	right, wait, err := s.verifySlowly(ctx, account, func() bool {
		for _, text := range presented {
			if text.Empty() || secret.Generated(text) {
				continue // the quick check has found it wrong
			}
			for _, verifier := range verifiers {
				if verifier.Verify(text) {
					s.verified.add(verifier, text)
					s.rehashClient(ctx, req, client, verifier, text)
					return true
				}
			}
		}
		return false
	})
	switch {
	case err != nil:
		return err
	case wait > 0:
		return &Refusal{Cause: CauseClientThrottled, RetryAfter: wait}
	case right:
		return nil
	}
	s.record(ctx, Event{At: s.cfg.now(), Type: EventClientRefused, ClientID: oauth.Legal(auth.ID), Actor: req.actor, Address: req.address, Cause: cause})
	return refuse(cause)
}

// verifySlowly runs a check by argon2id, at most as many at once as there are
// processors, since each takes 19 MiB. A failed one counts against the limits
// of the keys; where they are reached it says how long to wait and checks
// nothing. What waits for its turn does not count, so that many sign-ins at
// once with the right password do not look like guessing.
func (s *Server) verifySlowly(ctx context.Context, keys []limitedKey, check func() bool) (bool, time.Duration, error) {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return false, 0, ctx.Err()
	}
	if wait := s.failures.takeAll(keys); wait > 0 {
		return false, wait, nil
	}
	if !check() {
		return false, 0, nil
	}
	s.failures.giveBack(keys)
	return true, 0, nil
}
