package issuer

import (
	"context"
	"errors"

	"github.com/evergrant/evergrant/oauth"
)

// HabitEnd says what a client with a habit does, and which one of its settings
// ends that.
type HabitEnd struct {
	Does    string // the client, such as "asks for tokens by GET"
	Setting string // as the configuration has it, such as "require_pkce: always"; "" where none ends it
	ended   func(*registered) bool
}

// Habits are the words for all habits.
func Habits() map[Habit]HabitEnd {
	never := func(*registered) bool { return false }
	rotation := string("refresh_token_rotation: " + RotateAlways)
	return map[Habit]HabitEnd{
		HabitQueryRequest: {"asks for tokens by GET, so that its secret stands in URLs", "profile: standard",
			func(c *registered) bool { return !c.profile.QueryRequests }},
		HabitOpenRevocation: {"revokes tokens without its secret", "profile: standard",
			func(c *registered) bool { return !c.profile.OpenRevocation }},
		HabitAnySecret: {"sends a secret although it is public, which is not looked at", "profile: standard",
			func(c *registered) bool { return !c.profile.AnySecret }},
		HabitImplicit: {"gets access tokens in URLs (response_type=token)", "grant_types: without implicit",
			func(c *registered) bool { return !c.Allows(oauth.GrantImplicit) || !c.profile.Implicit }},
		HabitPassword: {"asks resource owners for their passwords", "grant_types: without password",
			func(c *registered) bool { return !c.Allows(oauth.GrantPassword) }},
		HabitNoPKCE: {"gets codes without PKCE", string("require_pkce: " + PKCEAlways),
			func(c *registered) bool {
				return c.policy.PKCE == PKCEAlways || c.policy.PKCE == PKCEPublicClients && c.Public()
			}},
		HabitRedirectPrefix: {"uses a redirect URI that only begins as a registered one", string("redirect_matching: " + RedirectExact),
			func(c *registered) bool { return c.policy.Redirects == RedirectExact }},
		HabitKeptToken: {"refreshes and goes on with the same refresh token", rotation,
			func(c *registered) bool { return c.policy.rotates(c.Client) }},
		HabitNoSuccessor: {"refreshes and gets no further refresh token", rotation,
			func(c *registered) bool { return c.policy.Rotation != RotateOnce }},
		HabitOlderToken: {"refreshes with an older refresh token than its last", rotation,
			func(c *registered) bool { return c.policy.Rotation != RotateAdditive }},
		HabitRetry: {"refreshes again with the refresh token that it has just used", "refresh_token_retry_window: 0",
			func(c *registered) bool { return c.policy.RetryWindow < 0 }},
		HabitImportedToken:  {"uses tokens of the server that it came from, until it refreshes", "", never},
		HabitImportedSecret: {"had secrets or passwords in the form of the server that it came from, which were hashed anew", "", never},
		HabitNarrowed: {"asks for less scope in a refresh, and loses the rest of its grant", "profile: standard",
			func(c *registered) bool { return !c.profile.NarrowForGood }},
		HabitTokenInRequest: {"sends access tokens in forms or URLs, and not in the Authorization header", "profile: standard",
			func(c *registered) bool { return !c.profile.resource().Form && !c.profile.resource().Query }},
	}
}

// Reliance is a habit of a client, and what would come of ending it.
type Reliance struct {
	Use
	Does    string `json:"does"`              // see HabitEnd
	Setting string `json:"setting,omitempty"` // the one that would break these requests, or has ended them
	// Past says that the setting is in force, so that there will be no more of
	// them, or that the client has just been deleted.
	Past bool `json:"past"`
}

// Habits says what clients rely on, with what this process has counted until
// now; what others have counted comes within 10 seconds.
func (a *Admin) Habits(ctx context.Context, filter UseFilter) ([]Reliance, error) {
	if err := a.server.storeUses(ctx); err != nil {
		return nil, err
	}
	uses, err := a.lists.Uses(ctx, filter)
	if err != nil {
		return nil, err
	}
	words, report := Habits(), make([]Reliance, 0, len(uses))
	for _, use := range uses {
		client, err := a.server.clients.get(ctx, use.ClientID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		end := words[use.Habit]
		past := err != nil || end.ended != nil && end.ended(client)
		report = append(report, Reliance{use, end.Does, end.Setting, past})
	}
	return report, nil
}

// ForgetHabits starts counting anew what a client relies on. ErrNotFound where
// there is no such client.
func (a *Admin) ForgetHabits(ctx context.Context, clientID string) error {
	if _, err := a.server.cfg.Store.Client(ctx, clientID); err != nil {
		return err
	}
	uses := &a.server.uses
	uses.mu.Lock()
	for key := range uses.waiting {
		if key.client == clientID {
			delete(uses.waiting, key)
		}
	}
	uses.mu.Unlock()
	return a.server.cfg.Store.ForgetUses(ctx, clientID)
}
