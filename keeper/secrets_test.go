package keeper_test

import (
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// withSecrets has the world's keeper know two client secrets of a provider.
func (w *world) withSecrets(name, first, second string) {
	w.change = func(cfg *keeper.Config) {
		cfg.Providers = []*provider.Provider{must[*provider.Provider](w.t)(provider.New(provider.Config{
			Definition: w.sims[name].Definition(w.urls[name]), ClientID: "sim-client", RedirectURI: "http://127.0.0.1/connect/callback",
			ClientSecrets: []secret.Text{secret.NewText(first), secret.NewText(second)}, AllowPrivateNetworks: true, Now: w.clock.now,
		}))}
	}
	w.start()
}

// TestAllSecretsAreRefused: what a provider says of each client secret spent
// nothing, and leaves nothing open: when the secrets are mended, the next attempt
// is made with them.
func TestAllSecretsAreRefused(t *testing.T) {
	w := newWorld(t, single())
	w.withSecrets("single", "old", "older")
	w.connect("one", "single")
	if u := w.unusable("one", keeper.Want{After: 1}); u.Class != provider.BadClient {
		t.Errorf("got %v", u)
	}
	if row := w.row("one"); row.Intent != nil || row.Attempt != 1 {
		t.Errorf("after %d attempts there is an intent: %+v", row.Attempt, row.Intent)
	}
	w.withSecrets("single", "old", "sim-secret")
	w.clock.move(time.Hour)
	if token := w.token("one", keeper.Want{}); token.Generation != 2 {
		t.Errorf("generation %d", token.Generation)
	}
}

// TestAllSecretsAreRefusedForACode: so does a code, and the connection that was
// made for it is gone.
func TestAllSecretsAreRefusedForACode(t *testing.T) {
	w := consenting(t, single())
	w.withSecrets("single", "old", "older")
	query := w.visit(w.link(keeper.Connect{Provider: "single", Connection: "one"}))
	if _, _, err := w.k.Finish(t.Context(), query, cookie); reasonOf(err) != keeper.ReasonCodeRefused {
		t.Errorf("got %v", err)
	}
	if row, err := w.k.Connection(t.Context(), "one"); err == nil {
		t.Errorf("there is %+v", row)
	}
}
