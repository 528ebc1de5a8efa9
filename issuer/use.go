package issuer

import (
	"context"
	"sync"
	"time"
)

// Habit is something that a client relies on and a stricter setting would take
// from it.
type Habit string

// Habits, each with the setting that ends it.
const (
	HabitQueryRequest   Habit = "query_request"         // a token request by GET; the profile standard
	HabitOpenRevocation Habit = "open_revocation"       // a token revoked without the client's secret; the profile standard
	HabitAnySecret      Habit = "any_secret"            // a public client that sends a secret; the profile standard
	HabitImplicit       Habit = "implicit"              // response_type=token; grant_types without implicit
	HabitPassword       Habit = "password_grant"        // grant_types without password
	HabitNoPKCE         Habit = "no_pkce"               // require_pkce: always
	HabitRedirectPrefix Habit = "redirect_prefix"       // redirect_matching: exact
	HabitKeptToken      Habit = "kept_refresh_token"    // refresh_token_rotation: always
	HabitNoSuccessor    Habit = "no_refresh_token"      // a refresh that gave no refresh token; refresh_token_rotation: always
	HabitOlderToken     Habit = "older_refresh_token"   // an older refresh token than the last; refresh_token_rotation: always
	HabitRetry          Habit = "retried_refresh_token" // the same refresh token within the retry window; refresh_token_retry_window: 0
	HabitImportedToken  Habit = "imported_token"        // a token of the server that the client came from
	HabitImportedSecret Habit = "imported_secret"       // a secret or password in the form of that server; it is hashed anew at once
	HabitNarrowed       Habit = "narrowed_for_good"     // a refresh that narrowed the grant; the profile standard
	HabitTokenInRequest Habit = "token_in_request"      // an access token in the form or query of a protected resource; the profile standard
)

const (
	usesInterval = 10 * time.Second // between two times that counts are stored
	usesRetained = 100_000          // pairs of client and habit that wait to be stored
)

// Use counts how often a client relied on a habit.
type Use struct {
	ClientID string    `json:"client_id"`
	Habit    Habit     `json:"habit"`
	Count    int64     `json:"count"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// UseStore keeps the counts.
type UseStore interface {
	// CountUses adds to what is counted: Count is added, First stays the earliest
	// and Last the latest. One that is new begins with what is given. Nothing is
	// counted of a client that is not there.
	CountUses(ctx context.Context, uses []Use) error
	// ForgetUses begins anew for a client. None to forget is no error.
	ForgetUses(ctx context.Context, clientID string) error
}

// uses collects counts in memory, so that a request that relies on a habit costs
// no write. What was not stored when a process is killed is not counted: up to
// usesInterval of it.
type uses struct {
	mu      sync.Mutex
	waiting map[useKey]Use
}

type useKey struct {
	client string
	habit  Habit
}

// count notes that a client relied on a habit.
func (s *Server) count(clientID string, habit Habit) {
	now := s.cfg.now()
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	key := useKey{clientID, habit}
	u, known := s.uses.waiting[key]
	if !known {
		if len(s.uses.waiting) >= usesRetained {
			return
		}
		u = Use{ClientID: clientID, Habit: habit, First: now}
	}
	u.Count, u.Last = u.Count+1, now
	s.uses.waiting[key] = u
}

// keepUses is storeUses for the background.
func (s *Server) keepUses(ctx context.Context) {
	if err := s.storeUses(ctx); err != nil && ctx.Err() == nil {
		s.cfg.log().Warn("what clients rely on was not counted; it is tried again", "error", err)
	}
}

// storeUses stores what was counted. What could not be stored waits on.
func (s *Server) storeUses(ctx context.Context) error {
	s.uses.mu.Lock()
	waiting := s.uses.waiting
	s.uses.waiting = map[useKey]Use{}
	s.uses.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	batch := make([]Use, 0, len(waiting))
	for _, u := range waiting {
		batch = append(batch, u)
	}
	err := s.cfg.Store.CountUses(ctx, batch)
	if err == nil {
		return nil
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	for key, u := range waiting {
		if since, again := s.uses.waiting[key]; again {
			u.Count, u.Last = u.Count+since.Count, since.Last
		}
		s.uses.waiting[key] = u
	}
	return err
}
