package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

func single() providertest.Dialect {
	return providertest.Dialect{Name: "single", Rotation: provider.RotationSingleUse, AccessLife: time.Hour}
}

// TestRefreshAheadOfExpiry is the five-minute rule: what is fresh is answered as
// it is, what has less than five minutes left is renewed.
func TestRefreshAheadOfExpiry(t *testing.T) {
	w := newWorld(t, single())
	grant := w.connect("one", "single")
	first := w.token("one", keeper.Want{})
	w.clock.move(54 * time.Minute)
	if again := w.token("one", keeper.Want{}); again.AccessToken.Reveal() != first.AccessToken.Reveal() {
		t.Error("it was renewed with six minutes left")
	}
	w.clock.move(2 * time.Minute)
	renewed := w.token("one", keeper.Want{})
	if renewed.AccessToken.Reveal() == first.AccessToken.Reveal() || renewed.Generation != 2 || renewed.TokenType != "Bearer" {
		t.Errorf("got generation %d, %s", renewed.Generation, renewed.TokenType)
	}
	if got := w.sims["single"].Grant(grant); got.State != providertest.Live || !slices.Equal(got.Spends, []int{1, 0}) {
		t.Errorf("at the provider: %+v", got)
	}
	if got, want := w.events("one"), []string{keeper.EventCreated, keeper.EventRefreshed}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestWants holds what a token is renewed for beside its age.
func TestWants(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	generation := uint64(1)
	for _, tt := range []struct {
		name  string
		want  keeper.Want
		moved time.Duration
		renew bool
	}{
		{"nothing", keeper.Want{}, 0, false},
		{"a life it has", keeper.Want{MinTTL: 30 * time.Minute}, 0, false},
		{"a life it has no more", keeper.Want{MinTTL: 30 * time.Minute}, 40 * time.Minute, true},
		{"longer than any token lives", keeper.Want{MinTTL: 9 * time.Hour}, 0, false},
		{"the same, later", keeper.Want{MinTTL: 9 * time.Hour}, 10 * time.Minute, true},
		{"force", keeper.Want{Force: true}, 0, true},
		{"one that was not refused", keeper.Want{After: 3}, 0, false},
		{"after the refused one", keeper.Want{After: 4}, 0, true},
		{"after the one before", keeper.Want{After: 4}, 0, false},
	} {
		w.clock.move(tt.moved)
		if tt.renew {
			generation++
		}
		if got := w.token("one", tt.want); got.Generation != generation {
			t.Fatalf("%s: generation %d, want %d", tt.name, got.Generation, generation)
		}
	}
}

// TestFiftyReaders holds that however many ask at once, by two keepers on one
// database, one request is sent.
func TestFiftyReaders(t *testing.T) {
	w := newWorld(t, single())
	w.connect("one", "single")
	w.clock.move(58 * time.Minute)
	w.sims["single"].Inject(providertest.Rule{Fault: providertest.Fault{AnswerLatency: 50 * time.Millisecond}})
	keepers := []*keeper.Keeper{w.k, w.another()}
	var readers sync.WaitGroup
	got := make([]string, 50)
	for i := range got {
		readers.Go(func() {
			token, err := keepers[i%2].Token(t.Context(), "one", keeper.Want{})
			if err != nil {
				t.Error(err)
			}
			got[i] = token.AccessToken.Reveal()
		})
	}
	readers.Wait()
	if n := len(slices.Compact(slices.Clone(got))); n != 1 {
		t.Errorf("they got %d different tokens", n)
	}
	if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestReaderLeaves holds that a reader's impatience ends his waiting and not the
// refresh.
func TestReaderLeaves(t *testing.T) {
	w := newWorld(t, single())
	grant := w.connect("one", "single")
	w.clock.move(58 * time.Minute)
	acted, answer := make(chan struct{}), make(chan struct{})
	w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{After: func() { close(acted); <-answer }}})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := w.k.Token(ctx, "one", keeper.Want{})
		left <- err
	}()
	<-acted
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the reader got %v", err)
	}
	close(answer)
	if got := w.token("one", keeper.Want{}); got.Generation != 2 {
		t.Errorf("generation %d", got.Generation)
	}
	if got := w.sims["single"].Grant(grant); !slices.Equal(got.Spends, []int{1, 0}) || got.State != providertest.Live {
		t.Errorf("at the provider: %+v", got)
	}
}

// TestAnswers holds what each answer of a provider does to a connection whose
// refresh token is good for one use.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault providertest.Fault
		class provider.Class // of the failure; "" for success
		state keeper.State
		cause keeper.Cause
	}{
		{"as it should be", providertest.Fault{}, "", keeper.Active, ""},
		{"20 MB", providertest.Huge(20 << 20), "", keeper.Active, ""},
		{"a byte order mark", providertest.ByteOrderMark(), "", keeper.Active, ""},
		{"201", providertest.Fault{Status: http.StatusCreated}, "", keeper.Active, ""},
		{"as plain text", providertest.Type("text/plain"), "", keeper.Active, ""},
		{"without a type", providertest.Type(""), "", keeper.Active, ""},
		{"expires_in as text", providertest.Set("expires_in", "3600"), "", keeper.Active, ""},
		{"expires_in with a fraction", providertest.Set("expires_in", 3599.5), "", keeper.Active, ""},
		{"expires_in empty", providertest.Set("expires_in", ""), "", keeper.Active, ""},
		{"expires_in as an object", providertest.Set("expires_in", map[string]any{}), "", keeper.Active, ""},
		{"an empty error beside the tokens", providertest.Set("error", map[string]any{}), "", keeper.Active, ""},
		{"broken off behind the tokens", providertest.Fault{Body: func(b []byte) []byte { return b[:len(b)-1] }}, "", keeper.Active, ""},
		{"no body", providertest.Empty(), provider.BadDefinition, keeper.InDoubt, keeper.CauseAnswerUnreadable},
		{"a page", providertest.Page(http.StatusOK), provider.BadDefinition, keeper.InDoubt, keeper.CauseAnswerUnreadable},
		{"tokens of another type", providertest.Set("access_token", []any{"a"}), provider.BadDefinition, keeper.InDoubt, keeper.CauseAnswerUnreadable},
		{"no access token", providertest.Unset("access_token"), provider.BadDefinition, keeper.InDoubt, keeper.CauseAnswerUnreadable},
		{"JSON broken off", providertest.Cut(20), provider.Ambiguous, keeper.InDoubt, keeper.CauseAnswerLost},
		{"502 when it acted", providertest.BadGateway(), provider.Ambiguous, keeper.InDoubt, keeper.CauseAnswerLost},
		{"closed when it acted", providertest.DropAfter(), provider.Ambiguous, keeper.InDoubt, keeper.CauseAnswerLost},
		{"closed before it acted", providertest.DropBefore(), provider.Ambiguous, keeper.InDoubt, keeper.CauseAnswerLost},
		{"too many requests", providertest.Unavailable(http.StatusTooManyRequests, "30"), provider.Throttled, keeper.Active, ""},
		{"a firewall", providertest.Fault{NotActed: true, Status: http.StatusForbidden, Header: map[string]string{"Content-Type": "text/html"},
			Body: func([]byte) []byte { return []byte("<html>no</html>") }}, provider.Transient, keeper.Active, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, single())
			w.connect("one", "single")
			old := w.token("one", keeper.Want{})
			w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: tt.fault})
			got, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1})
			row := w.row("one")
			if row.State != tt.state || row.Cause != tt.cause || row.Class != tt.class {
				t.Errorf("the row is %s (%s), class %q: %s", row.State, row.Cause, row.Class, row.Error)
			}
			if tt.class == "" {
				if err != nil || got.Generation != 2 || !w.sims["single"].Alive(got.AccessToken.Reveal()) {
					t.Fatalf("got generation %d, %v", got.Generation, err)
				}
				if next := w.token("one", keeper.Want{Force: true}); next.Generation != 3 {
					t.Errorf("the next refresh gives generation %d", next.Generation)
				}
				return
			}
			unusable, ok := errors.AsType[*keeper.Unusable](err)
			if !ok || unusable.Class != tt.class || unusable.NeedsOwner() || unusable.Repair == "" {
				t.Fatalf("got %v", err)
			}
			// Who did not refuse the old token still gets it.
			if again := w.token("one", keeper.Want{}); again.AccessToken.Reveal() != old.AccessToken.Reveal() {
				t.Error("the old token is not served while it lives")
			}
			if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 1 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

// TestAnswerIsReadAgain holds that an answer which the definition could not read
// is not lost: a mended definition reads it from the journal, and the provider
// is not asked again.
func TestAnswerIsReadAgain(t *testing.T) {
	w := newWorld(t, single())
	grant := w.connect("one", "single")
	renamed := providertest.Fault{Body: func(body []byte) []byte { return bytes.Replace(body, []byte(`"access_token"`), []byte(`"jwt"`), 1) }}
	w.sims["single"].Inject(providertest.Rule{Fault: renamed})
	if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
		t.Fatal("it was read")
	}
	definition := w.sims["single"].Definition(w.urls["single"])
	definition.Response.AccessToken = "jwt"
	w.change = func(cfg *keeper.Config) {
		cfg.Providers = []*provider.Provider{newProvider(t, "single", definition, w.clock.now, nil)}
	}
	w.start()
	w.clock.move(30 * time.Minute)
	got := w.token("one", keeper.Want{After: 1})
	if got.Generation != 2 || !w.sims["single"].Alive(got.AccessToken.Reveal()) {
		t.Errorf("got generation %d", got.Generation)
	}
	if grant := w.sims["single"].Grant(grant); !slices.Equal(grant.Spends, []int{1, 0}) {
		t.Errorf("at the provider: %+v", grant)
	}
	if row := w.row("one"); row.State != keeper.Active || row.Intent != nil || row.Error != "" {
		t.Errorf("the row: %+v", row)
	}
	if events := w.events("one"); !slices.Contains(events, keeper.EventInDoubt) || !slices.Contains(events, keeper.EventRecovered) {
		t.Errorf("events %v", events)
	}
}

// TestLostAnswers holds what a definition promises when an answer is lost.
func TestLostAnswers(t *testing.T) {
	window := single()
	window.ReplayWindow = 30 * time.Minute
	fixed := single()
	fixed.Rotation = provider.RotationFixed
	checked := single()
	checked.LiveAccessTokens = 1
	for _, tt := range []struct {
		name     string
		dialect  providertest.Dialect
		fault    providertest.Fault
		requests int          // for tokens, when all is settled
		state    keeper.State // then
		doubt    bool
		cause    keeper.Cause
	}{
		{"replay window, lost after", window, providertest.DropAfter(), 2, keeper.Active, false, ""},
		{"replay window, lost before", window, providertest.DropBefore(), 2, keeper.Active, false, ""},
		{"fixed, lost after", fixed, providertest.DropAfter(), 2, keeper.Active, false, ""},
		{"single use, lost before", single(), providertest.DropBefore(), 2, keeper.Active, true, ""},
		{"single use, lost after", single(), providertest.DropAfter(), 2, keeper.Reauthorize, true, keeper.CauseReplayed},
		{"checked, lost before", checked, providertest.DropBefore(), 2, keeper.Active, true, ""},
		{"checked, lost after", checked, providertest.DropAfter(), 1, keeper.Reauthorize, true, keeper.CauseReplayed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.dialect)
			w.connect("one", "single")
			w.sims["single"].Inject(providertest.Rule{Times: 1, Fault: tt.fault})
			if _, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1}); err == nil {
				t.Fatal("the answer was not lost")
			}
			if doubted := w.row("one").State == keeper.InDoubt; doubted != tt.doubt {
				t.Errorf("in doubt is %t", doubted)
			}
			for range 30 {
				w.clock.move(5 * time.Minute)
				w.k.Token(t.Context(), "one", keeper.Want{Force: true})
				if row := w.row("one"); row.Intent == nil && row.State != keeper.InDoubt {
					break
				}
			}
			row, stats := w.row("one"), w.sims["single"].Stats()
			if row.State != tt.state || row.Cause != tt.cause {
				t.Errorf("the row is %s (%s)", row.State, row.Cause)
			}
			if n := stats.Requests[provider.Refresh]; n < tt.requests || tt.requests == 1 && n > 1 {
				t.Errorf("%d requests for tokens", n)
			}
			if tt.state == keeper.Active {
				if len(stats.DoubleSpends)+stats.FamiliesRevoked > 0 {
					t.Errorf("double spends: %+v", stats.DoubleSpends)
				}
				if token := w.token("one", keeper.Want{}); !w.sims["single"].Alive(token.AccessToken.Reveal()) {
					t.Error("the token is dead")
				}
				return
			}
			_, err := w.k.Token(t.Context(), "one", keeper.Want{})
			if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || !unusable.NeedsOwner() || unusable.Cause != tt.cause {
				t.Errorf("the reader gets %v", err)
			}
		})
	}
}

// TestRefusals holds what each refusal of a provider does.
func TestRefusals(t *testing.T) {
	t.Run("revoked", func(t *testing.T) {
		w := newWorld(t, single())
		w.sims["single"].Revoke(w.connect("one", "single"))
		_, err := w.k.Token(t.Context(), "one", keeper.Want{Force: true})
		unusable, ok := errors.AsType[*keeper.Unusable](err)
		if !ok || !unusable.NeedsOwner() || unusable.Cause != keeper.CauseRevoked || unusable.Since.IsZero() {
			t.Errorf("got %v", err)
		}
		if events := w.events("one"); events[len(events)-1] != keeper.EventReauthorize {
			t.Errorf("events %v", events)
		}
		if _, err := w.k.Token(t.Context(), "one", keeper.Want{Force: true}); err == nil || w.sims["single"].Stats().Requests[provider.Refresh] != 1 {
			t.Errorf("a dead refresh token is sent again; %v", err)
		}
	})
	t.Run("expired by its own clock", func(t *testing.T) {
		d := single()
		d.RefreshIdle = 24 * time.Hour
		w := newWorld(t, d)
		w.connect("one", "single")
		w.clock.move(25 * time.Hour)
		_, err := w.k.Token(t.Context(), "one", keeper.Want{})
		if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || !unusable.NeedsOwner() || unusable.Cause != keeper.CauseRefreshTokenExpired {
			t.Errorf("got %v", err)
		}
		if n := w.sims["single"].Stats().Requests[provider.Refresh]; n != 0 {
			t.Errorf("%d late refreshes were tried", n)
		}
	})
	t.Run("the next client secret", func(t *testing.T) {
		w := newWorld(t, single())
		w.connect("one", "single")
		w.sims["single"].SetSecrets("another")
		_, err := w.k.Token(t.Context(), "one", keeper.Want{After: 1})
		if unusable, ok := errors.AsType[*keeper.Unusable](err); !ok || unusable.NeedsOwner() || unusable.Class != provider.BadClient {
			t.Errorf("got %v", err)
		}
		if row := w.row("one"); row.State != keeper.Active {
			t.Errorf("the connection is %s", row.State)
		}
	})
}

func (w *world) token(id string, want keeper.Want) keeper.Token {
	w.t.Helper()
	return must[keeper.Token](w.t)(w.k.Token(w.t.Context(), id, want))
}
