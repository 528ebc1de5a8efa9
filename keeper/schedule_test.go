package keeper

import (
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"pgregory.net/rapid"
)

var issued = time.Date(2031, 5, 17, 9, 30, 0, 0, time.UTC)

// in is a point in time as so much after the tokens were issued.
func in(d time.Duration) time.Time { return issued.Add(d) }

// fresh is a connection whose access token lives for a time; 0 is not known.
func freshRow(lifetime time.Duration) Connection {
	c := Connection{State: Active, Refreshable: true, Generation: 1, CreatedAt: issued, IssuedAt: issued}
	if lifetime != 0 {
		c.ExpiresAt = in(lifetime)
	}
	return c
}

func TestNextDue(t *testing.T) {
	const min, hour = time.Minute, time.Hour
	for name, tt := range map[string]struct {
		lifetime time.Duration
		change   func(c *Connection, def *provider.Definition)
		first    time.Duration // without jitter, after the issue; 0 is never
		last     time.Duration // the most that jitter makes it earlier
	}{
		"an hour": {hour, nil, 55 * min, 6 * min},
		"20 minutes, a quarter of which is the setting": {20 * min, nil, 15 * min, 2 * min},
		"5 minutes":          {5 * min, nil, 225 * time.Second, 30 * time.Second},
		"3 seconds":          {3 * time.Second, nil, 2250 * time.Millisecond, 300 * time.Millisecond},
		"60 days":            {60 * day, nil, 60*day - 5*min, 6 * day},
		"never issued":       {hour, func(c *Connection, _ *provider.Definition) { c.IssuedAt = time.Time{} }, 0, 0},
		"no lifetime at all": {-1, nil, min, 0},
		"the definition's own time": {hour, func(_ *Connection, d *provider.Definition) {
			d.AccessToken.RefreshAhead = oauth.Lifetime(10 * min)
		}, 50 * min, 6 * min},
		"the definition's own time, above a quarter": {hour, func(_ *Connection, d *provider.Definition) {
			d.AccessToken.RefreshAhead = oauth.Lifetime(hour)
		}, 45 * min, 6 * min},
		"the definition says at the last moment": {hour, func(_ *Connection, d *provider.Definition) {
			d.AccessToken.RefreshAhead = oauth.None
		}, hour, 6 * min},
		"not before 30 seconds are left": {10 * min, func(_ *Connection, d *provider.Definition) {
			d.AccessToken.NoEarlyRefresh = oauth.Lifetime(30 * time.Second)
		}, 585 * time.Second, 12 * time.Second},

		"cannot be renewed": {hour, func(c *Connection, _ *provider.Definition) {
			c.Refreshable = false
		}, 54 * min, 0}, // the warning
		"cannot be renewed, warned": {hour, func(c *Connection, _ *provider.Definition) {
			c.Refreshable, c.WarnedAt = false, in(54*min)
		}, hour, 0},
		"cannot be renewed and never expires": {0, func(c *Connection, _ *provider.Definition) { c.Refreshable = false }, 0, 0},

		"on demand, 60 days idle": {hour, func(c *Connection, _ *provider.Definition) {
			c.Background, c.RefreshExpiresAt = OnDemand, in(60*day)
		}, 53 * day, day},
		"on demand, 60 days idle by the definition": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, d.RefreshToken.IdleLifetime = OnDemand, oauth.Lifetime(60*day)
		}, 53 * day, day},
		"on demand, 24 hours idle": {hour, func(c *Connection, _ *provider.Definition) {
			c.Background, c.RefreshExpiresAt = OnDemand, in(day)
		}, 18 * hour, 144 * min},
		"on demand, idle for ever": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, d.RefreshToken.IdleLifetime = OnDemand, oauth.None
		}, 0, 0},
		"on demand, idle time unknown":                     {hour, func(c *Connection, _ *provider.Definition) { c.Background = OnDemand }, 126 * hour, 1008 * min},
		"on demand, idle time unknown and a long lifetime": {60 * day, func(c *Connection, _ *provider.Definition) { c.Background = OnDemand }, 53 * day, day},
		"on demand, re-minted without the owner": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, c.RefreshExpiresAt, d.Remint.Steps = OnDemand, in(day), make([]provider.Step, 2)
		}, 0, 0},
		"on demand, client credentials": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, d.Grant = OnDemand, oauth.GrantClientCredentials
		}, 0, 0},

		"expiry unknown":                {0, nil, 126 * hour, 1008 * min},
		"expiry unknown, 100 days idle": {0, func(c *Connection, _ *provider.Definition) { c.RefreshExpiresAt = in(100 * day) }, 93 * day, day},
		"the refresh token ends first":  {90 * day, func(c *Connection, _ *provider.Definition) { c.RefreshExpiresAt = in(30 * day) }, 23 * day, day},
		"it dies with the access token": {60 * day, func(_ *Connection, d *provider.Definition) { d.RefreshToken.DiesWithAccessToken = true }, 53 * day, day},
		"it dies with an access token of 20 minutes": {20 * min, func(_ *Connection, d *provider.Definition) {
			d.RefreshToken.DiesWithAccessToken = true
		}, 15 * min, 2 * min},
		"it dies, on demand": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, d.RefreshToken.DiesWithAccessToken = OnDemand, true
		}, 45 * min, 6 * min},
		"it dies, on demand, re-minted": {hour, func(c *Connection, d *provider.Definition) {
			c.Background, d.RefreshToken.DiesWithAccessToken, d.Grant = OnDemand, true, oauth.GrantClientCredentials
		}, 0, 0},
		"it dies, and early refreshes are refused": {hour, func(_ *Connection, d *provider.Definition) {
			d.RefreshToken.DiesWithAccessToken, d.AccessToken.NoEarlyRefresh = true, oauth.Lifetime(2*min)
		}, 58*min + 12*time.Second, 0},

		"warned of the end first":  {30 * day, func(c *Connection, _ *provider.Definition) { c.CreatedAt, c.EndsAt = in(-345*day), in(20*day) }, 6 * day, 0},
		"warned of the end before": {30 * day, func(c *Connection, _ *provider.Definition) { c.EndsAt, c.WarnedAt = in(20*day), issued }, 30*day - 5*min, 3 * day},
	} {
		c, def := freshRow(tt.lifetime), provider.Definition{}
		if tt.change != nil {
			tt.change(&c, &def)
		}
		for _, random := range []float64{0, 0.5, 0.999999} {
			want := in(tt.first)
			if tt.first == 0 {
				want = time.Time{}
			}
			got := nextDue(&c, &def, 5*min, random)
			early := want.Sub(got)
			if tt.first == 0 && !got.IsZero() || tt.first != 0 && (early < 0 || early > tt.last || random == 0 && early != 0 || random > 0.9 && early < tt.last-time.Minute) {
				t.Errorf("%s, chance %v: due %s after the issue, want %s or up to %s earlier", name, random, got.Sub(issued), tt.first, tt.last)
			}
		}
	}
}

// TestNextDueRules: whatever is known of a provider, what is renewed in time is
// renewed before it is over, not earlier than after half of its life, and by at
// most a tenth of it by chance.
func TestNextDueRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lifetime := time.Duration(rapid.Int64Range(int64(2*time.Second), int64(90*day)).Draw(t, "lifetime"))
		c, def := freshRow(lifetime), provider.Definition{}
		if rapid.Bool().Draw(t, "idle") {
			c.RefreshExpiresAt = in(time.Duration(rapid.Int64Range(int64(2*time.Second), int64(400*day)).Draw(t, "refresh expires")))
		}
		def.RefreshToken.DiesWithAccessToken = rapid.Bool().Draw(t, "dies")
		ahead := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "ahead"))
		random := rapid.Float64Range(0, 0.9999).Draw(t, "chance")
		due, latest := nextDue(&c, &def, ahead, random), nextDue(&c, &def, ahead, 0)
		end := sooner(c.ExpiresAt, c.RefreshExpiresAt)
		if due.After(end) || due.Before(in(leastPause)) {
			t.Fatalf("due %s after the issue; it ends after %s", due.Sub(issued), end.Sub(issued))
		}
		whole := end.Sub(issued)
		if due.Before(in(whole/2)) && due.After(in(leastPause)) {
			t.Fatalf("due after %s of %s", due.Sub(issued), whole)
		}
		if early := latest.Sub(due); early < 0 || early > lifetime/10+time.Duration(1) && early > day {
			t.Fatalf("chance makes it %s earlier, of a lifetime of %s", early, lifetime)
		}
	})
}

// TestKeepAliveEnds: where a refresh does not move the end of the refresh token,
// keeping it alive does not go on for ever.
func TestKeepAliveEnds(t *testing.T) {
	c, def := freshRow(time.Hour), provider.Definition{}
	c.Background, c.RefreshExpiresAt = OnDemand, in(365*day)
	refreshes := 0
	for c.IssuedAt.Before(c.RefreshExpiresAt) {
		due := nextDue(&c, &def, 5*time.Minute, 0.5)
		if !due.After(c.IssuedAt) {
			t.Fatalf("due at once after refresh %d", refreshes)
		}
		c.IssuedAt, c.ExpiresAt = due, due.Add(time.Hour)
		refreshes++
	}
	if refreshes > 20 {
		t.Errorf("%d refreshes within a year", refreshes)
	}
}

func TestRetryAt(t *testing.T) {
	const second, minute = time.Second, time.Minute
	for name, tt := range map[string]struct {
		lifetime   time.Duration
		class      provider.Class
		attempt    int
		retryAfter time.Duration
		most       time.Duration // the pause with no chance; chance takes up to half
		change     func(c *Connection, def *provider.Definition)
	}{
		"the first":                     {time.Hour, provider.Transient, 1, 0, second, nil},
		"not counted":                   {time.Hour, provider.Transient, 0, 0, second, nil},
		"the second":                    {time.Hour, provider.Transient, 2, 0, 2 * second, nil},
		"the fifth":                     {time.Hour, provider.Ambiguous, 5, 0, 16 * second, nil},
		"the tenth":                     {time.Hour, provider.Transient, 10, 0, 5 * minute, nil},
		"the ten thousandth":            {time.Hour, provider.Transient, 10_000, 0, 5 * minute, nil},
		"the tenth, of unknown life":    {0, provider.Transient, 10, 0, 5 * minute, nil},
		"the tenth of 20 minutes":       {20 * minute, provider.Transient, 10, 0, 150 * second, nil},
		"the tenth of 16 seconds":       {16 * second, provider.Transient, 10, 0, 2 * second, nil},
		"the tenth of a second":         {second, provider.Transient, 10, 0, second, nil},
		"throttled":                     {time.Hour, provider.Throttled, 1, 0, 5 * second, nil},
		"throttled, the tenth":          {time.Hour, provider.Throttled, 10, 0, 5 * minute, nil},
		"a client that is refused":      {10 * time.Hour, provider.BadClient, 1, 0, minute, nil},
		"a client that stays refused":   {10 * time.Hour, provider.BadClient, 10, 0, 15 * minute, nil},
		"a definition that is bad":      {10 * time.Hour, provider.BadDefinition, 3, 0, 4 * minute, nil},
		"a definition, tokens of a day": {day, provider.BadDefinition, 99, 0, 15 * minute, nil},
	} {
		c, def := freshRow(tt.lifetime), provider.Definition{}
		c.Attempt = tt.attempt
		now := in(10 * second)
		for random, least := range map[float64]time.Duration{0: tt.most, 0.999999: tt.most / 2} {
			got := retryAt(&c, &def, tt.class, tt.retryAfter, now, random).Sub(now)
			if got > least+time.Millisecond || got < least {
				t.Errorf("%s, chance %v: again in %s, want %s", name, random, got, least)
			}
		}
	}
}

// TestRetryAfter: what a provider asks for is kept to, with some chance on top,
// up to a day.
func TestRetryAfter(t *testing.T) {
	c, def := freshRow(20*time.Minute), provider.Definition{}
	def.RefreshToken.DiesWithAccessToken = true
	c.Attempt = 1
	for after, want := range map[time.Duration][2]time.Duration{
		time.Second:            {time.Second, 5 * time.Second}, // the own pause is longer
		90 * time.Second:       {90 * time.Second, 99 * time.Second},
		time.Hour:              {time.Hour, 66 * time.Minute},
		day:                    {day, day + 144*time.Minute},
		100 * 365 * day:        {day, day + 144*time.Minute},
		time.Duration(1 << 62): {day, day + 144*time.Minute},
	} {
		for _, random := range []float64{0, 0.5, 0.999999} {
			if got := retryAt(&c, &def, provider.Throttled, after, issued, random).Sub(issued); got < want[0] || got > want[1] {
				t.Errorf("asked to wait %s, chance %v: again in %s", after, random, got)
			}
		}
	}
}

// TestRetryBeforeTheEnd: the last tries before a refresh token ends are not
// slept through.
func TestRetryBeforeTheEnd(t *testing.T) {
	c, def := freshRow(time.Hour), provider.Definition{}
	def.RefreshToken.DiesWithAccessToken = true
	c.Attempt = 12
	tries := 0
	for now := in(50 * time.Minute); now.Before(c.ExpiresAt); tries++ {
		next := retryAt(&c, &def, provider.Transient, 0, now, 0)
		if next.Sub(now) < time.Second || next.Sub(now) > 5*time.Minute {
			t.Fatalf("again in %s", next.Sub(now))
		}
		if left := c.ExpiresAt.Sub(now); left > 2*time.Second && !next.Before(c.ExpiresAt) {
			t.Fatalf("the next try is after the end, and %s are left", left)
		}
		now = next
	}
	if tries < 5 || tries > 15 {
		t.Errorf("%d tries in the last ten minutes", tries)
	}
	// What can be had without it is not hurried.
	def.Grant = oauth.GrantClientCredentials
	if next := retryAt(&c, &def, provider.Transient, 0, in(59*time.Minute), 0); !next.After(c.ExpiresAt) {
		t.Errorf("again at %s", next.Sub(issued))
	}
	// After the end the pauses go on as usual: there is no last attempt.
	def.Grant = ""
	if next := retryAt(&c, &def, provider.Transient, 0, in(100*day), 0); next.Sub(in(100*day)) != 5*time.Minute {
		t.Errorf("again in %s", next.Sub(in(100*day)))
	}
}

func TestWarnAt(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *Connection, def *provider.Definition)
		want   time.Duration // after the issue; 0 is never
	}{
		"no end":                   {func(*Connection, *provider.Definition) {}, 0},
		"a year from the creation": {func(c *Connection, _ *provider.Definition) { c.EndsAt = in(365 * day) }, 351 * day},
		"a year by the definition, half of it gone": {func(c *Connection, d *provider.Definition) {
			c.CreatedAt, c.EndsAt, d.RefreshToken.Lifetime = in(-180*day), in(185*day), oauth.Lifetime(365*day)
		}, 171 * day},
		"a week": {func(c *Connection, _ *provider.Definition) { c.EndsAt = in(10 * day) }, 9 * day},
		"connected anew": {func(c *Connection, d *provider.Definition) {
			c.CreatedAt, c.EndsAt, d.RefreshToken.Lifetime = in(-1000*day), in(7*day), oauth.Lifetime(7*day)
		}, 7*day - 7*day/10},
		"ends before it began": {func(c *Connection, _ *provider.Definition) { c.EndsAt = in(-day) }, -day},
		"cannot be renewed":    {func(c *Connection, _ *provider.Definition) { c.Refreshable = false }, 54 * time.Minute},
		"cannot be renewed, and ends after that": {func(c *Connection, _ *provider.Definition) {
			c.Refreshable, c.EndsAt = false, in(100*day)
		}, 54 * time.Minute},
		"cannot be renewed, and ends before that": {func(c *Connection, _ *provider.Definition) {
			c.Refreshable, c.EndsAt = false, in(30*time.Minute)
		}, 27 * time.Minute},
		"cannot be renewed and never expires": {func(c *Connection, _ *provider.Definition) {
			c.Refreshable, c.ExpiresAt = false, time.Time{}
		}, 0},
		"cannot be renewed, never expires, but ends": {func(c *Connection, _ *provider.Definition) {
			c.Refreshable, c.ExpiresAt, c.EndsAt = false, time.Time{}, in(365*day)
		}, 351 * day},
	} {
		c, def := freshRow(time.Hour), provider.Definition{}
		tt.change(&c, &def)
		want := in(tt.want)
		if tt.want == 0 {
			want = time.Time{}
		}
		if got := warnAt(&c, &def); !got.Equal(want) {
			t.Errorf("%s: warned at %s, want %s", name, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first"))
		most := time.Duration(rapid.Int64Range(1, int64(day)).Draw(t, "most"))
		n := rapid.IntRange(-1, 1_000_000).Draw(t, "n")
		random := rapid.Float64Range(0, 0.9999).Draw(t, "chance")
		pause := backoff(first, most, n, random)
		if pause <= 0 && most > 1 || pause > most || pause < min(first, most)/2 {
			t.Fatalf("pause %s", pause)
		}
		if later := backoff(first, most, n+1, random); later < pause {
			t.Fatalf("pause %s after %d failures and %s after one more", pause, n, later)
		}
	})
}
