package issuer_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// habits are what clients rely on, as short lines.
func (e *site) habits(filter issuer.UseFilter) []string {
	e.t.Helper()
	report, err := e.admin.Habits(e.ctx(), filter)
	e.must(err)
	var lines []string
	for _, h := range report {
		lines = append(lines, fmt.Sprintf("%s %s %d past=%v", h.ClientID, h.Habit, h.Count, h.Past))
	}
	return lines
}

func (e *site) wantHabits(filter issuer.UseFilter, want ...string) {
	e.t.Helper()
	if got := e.habits(filter); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		e.t.Errorf("habits %q, want %q", got, want)
	}
}

func TestHabits(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	e.wantHabits(issuer.UseFilter{})
	first := e.login(app)
	begun := e.clock.now()
	e.refreshed(app, first.RefreshToken)
	e.clock.advance(time.Second)
	e.refreshed(app, first.RefreshToken)
	e.login(other)
	e.wantHabits(issuer.UseFilter{},
		"app password_grant 1 past=false", "app retried_refresh_token 1 past=false", "other password_grant 1 past=false")

	// What was stored before and what was not is one count.
	e.clock.advance(time.Second)
	e.login(app)
	report, err := e.admin.Habits(e.ctx(), issuer.UseFilter{ClientID: "app", Limit: 1})
	e.must(err)
	if len(report) != 1 || report[0].Count != 2 || !report[0].First.Equal(begun) || !report[0].Last.Equal(e.clock.now()) ||
		report[0].Does == "" || report[0].Setting != "grant_types: without password" {
		t.Errorf("report %+v", report)
	}
	e.wantHabits(issuer.UseFilter{AfterClient: "app", AfterHabit: issuer.HabitPassword},
		"app retried_refresh_token 1 past=false", "other password_grant 1 past=false")

	// A setting that is in force makes it past. With the client it is gone.
	e.register(app, issuer.Client{
		RedirectURIs: []string{callback}, GrantTypes: []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}, Policy: issuer.Policy{RetryWindow: issuer.None},
	})
	e.wantHabits(issuer.UseFilter{ClientID: "app"}, "app password_grant 2 past=true", "app retried_refresh_token 1 past=true")
	e.must(e.admin.DeleteClient(e.ctx(), operator, "other"))
	e.wantHabits(issuer.UseFilter{ClientID: "other"})
}

func TestForgetHabits(t *testing.T) {
	t.Parallel()
	e := newSite(t, setup{})
	e.login(app)
	e.habits(issuer.UseFilter{})
	e.login(app) // counted and not stored
	e.login(other)
	before := len(e.events(""))
	e.must(e.admin.ForgetHabits(e.ctx(), "app"))
	e.wantHabits(issuer.UseFilter{}, "other password_grant 1 past=false")
	if len(e.events("")) != before {
		t.Error("it is an event")
	}
	e.must(e.admin.ForgetHabits(e.ctx(), "app")) // nothing is left to forget
	e.login(app)
	e.wantHabits(issuer.UseFilter{}, "app password_grant 1 past=false", "other password_grant 1 past=false")
	if err := e.admin.ForgetHabits(e.ctx(), "nobody"); !errors.Is(err, issuer.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

// TestHabitsAfterFailure: what could not be stored is told as an error, and
// counted at the next report.
func TestHabitsAfterFailure(t *testing.T) {
	t.Parallel()
	e := newFaulty(t, setup{})
	e.login(app)
	e.during(&fault{method: "CountUses", err: issuer.ErrUnavailable}, func() {
		if _, err := e.admin.Habits(e.ctx(), issuer.UseFilter{}); !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("not stored: %v", err)
		}
	})
	e.login(app)
	e.wantHabits(issuer.UseFilter{}, "app password_grant 2 past=false")
	e.during(&fault{method: "ForgetUses", err: issuer.ErrUnavailable}, func() {
		if err := e.admin.ForgetHabits(e.ctx(), "app"); !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("not forgotten: %v", err)
		}
	})
	e.wantHabits(issuer.UseFilter{}, "app password_grant 2 past=false")
	e.during(&fault{method: "ForgetUses", done: true, err: issuer.ErrUnavailable}, func() {
		if err := e.admin.ForgetHabits(e.ctx(), "app"); !errors.Is(err, issuer.ErrUnavailable) {
			t.Errorf("forgotten, and not known: %v", err)
		}
	})
	e.wantHabits(issuer.UseFilter{})
}
