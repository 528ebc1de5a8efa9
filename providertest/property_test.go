package providertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"pgregory.net/rapid"
)

// walk is a random history of one simulator: refreshes with any token that was
// ever told, and calls, while time passes.
type walk struct {
	*rapid.T
	*clock
	sim     *providertest.Simulator
	refresh []string // every refresh token, oldest first
	access  []string
}

// TestAnyHistory holds, whatever happens to a grant, that Alive says what the
// provider then does, and that what is counted agrees with itself.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := providertest.Plain()
		d.Rotation = rapid.SampledFrom([]provider.Rotation{provider.RotationFixed, provider.RotationRotating, provider.RotationSingleUse}).Draw(t, "rotation")
		d.ReplayWindow = rapid.SampledFrom([]time.Duration{0, 10 * time.Minute, 24 * time.Hour}).Draw(t, "window")
		d.UntilUsed = rapid.Bool().Draw(t, "until used")
		d.RepeatsFixed = true
		d.ChangeEvery = rapid.IntRange(0, 3).Draw(t, "change every")
		d.LiveAccessTokens = rapid.IntRange(0, 2).Draw(t, "live access tokens")
		d.GrantLife = rapid.SampledFrom([]time.Duration{0, 48 * time.Hour}).Draw(t, "grant life")
		w := &walk{T: t, clock: &clock{at: began}}
		w.sim = providertest.New(d, providertest.Options{Now: w.now})
		_, tokens := w.sim.Connect("alice")
		w.refresh, w.access = []string{tokens.RefreshToken.Reveal()}, []string{tokens.AccessToken.Reveal()}
		t.Repeat(map[string]func(*rapid.T){
			"refresh": w.spend,
			"call":    w.call,
			"pass": func(t *rapid.T) {
				w.pass(rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "time"))
			},
			"": w.agree,
		})
	})
}

// spend presents any refresh token, mostly a new one.
func (w *walk) spend(t *rapid.T) {
	back := min(rapid.IntRange(0, 3).Draw(t, "back"), len(w.refresh)-1)
	token := w.refresh[len(w.refresh)-1-back]
	alive := w.sim.Alive(token)
	req := httptest.NewRequest("POST", providertest.TokenPath, strings.NewReader(form("client_id", "sim-client", "client_secret", "sim-secret",
		"grant_type", "refresh_token", "refresh_token", token)))
	req.Header.Set("Content-Type", oauth.FormType)
	answer := httptest.NewRecorder()
	w.sim.ServeHTTP(answer, req)
	if (answer.Code == http.StatusOK) != alive {
		t.Fatalf("the refresh token was said to be alive: %t; it was answered %d %s\n%s", alive, answer.Code, answer.Body, strings.Join(w.sim.History("grant-1"), "\n"))
	}
	if alive {
		told := decode(answer.Body.String())
		w.access = append(w.access, told["access_token"].(string))
		if next := told["refresh_token"].(string); next != token {
			w.refresh = append(w.refresh, next)
		}
	}
}

// call presents any access token to the API.
func (w *walk) call(t *rapid.T) {
	token := rapid.SampledFrom(w.access).Draw(t, "access token")
	alive := w.sim.Alive(token)
	req := httptest.NewRequest("GET", providertest.MePath, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	w.sim.ServeHTTP(answer, req)
	if (answer.Code == http.StatusOK) != alive {
		t.Fatalf("the access token was said to be alive: %t; it was answered %d", alive, answer.Code)
	}
}

// agree compares what is counted.
func (w *walk) agree(t *rapid.T) {
	g, s := w.sim.Grant("grant-1"), w.sim.Stats()
	killed, spends := 0, 0
	for _, double := range s.DoubleSpends {
		if double.Killed {
			killed++
		}
	}
	for _, n := range g.Spends {
		spends += n
	}
	if s.FamiliesRevoked != killed || (g.State == providertest.Killed) != (killed == 1) || g.Generation != spends+1 || len(w.access) != g.Generation {
		t.Fatalf("grant %+v, stats %+v, %d access tokens", g, s, len(w.access))
	}
}
