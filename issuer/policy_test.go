package issuer_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

func TestLifetimesInDocuments(t *testing.T) {
	policy := issuer.Policy{RefreshTokenLifetime: issuer.Lifetime(36 * time.Hour), GrantLifetime: issuer.None, Rotation: issuer.RotateNever}
	text, err := json.Marshal(policy)
	if err != nil || string(text) != `{"refresh_token_lifetime":"1d12h","grant_lifetime":"0","refresh_token_rotation":"never"}` {
		t.Errorf("%s, %v", text, err)
	}
	var back issuer.Policy
	if err := json.Unmarshal(text, &back); err != nil || back != policy {
		t.Errorf("%+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"grant_lifetime":""}`), &back); err != nil || back.GrantLifetime != 0 {
		t.Errorf("%+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"grant_lifetime":"soon"}`), &back); err == nil {
		t.Error("an unreadable lifetime was accepted")
	}
	if issuer.Lifetime(0).String() != "" || issuer.Lifetime(-7).String() != "0" {
		t.Error("zero and negative values print otherwise")
	}
}

func TestPolicyCheck(t *testing.T) {
	good := []issuer.Policy{
		{}, {AccessTokenLifetime: issuer.Lifetime(time.Second)}, {CodeLifetime: issuer.Lifetime(10 * time.Minute)}, {RetryWindow: issuer.None}, {RetryWindow: issuer.Lifetime(time.Hour)},
		{RefreshTokenLifetime: issuer.None, GrantLifetime: issuer.None}, {Rotation: issuer.RotatePublicClients, Format: issuer.FormatOpaque, SigningAlg: secret.EdDSA},
	}
	for _, policy := range good {
		if err := policy.Check(); err != nil {
			t.Errorf("%+v: %v", policy, err)
		}
	}
	for names, policy := range map[string]issuer.Policy{
		"access_token_lifetime":       {AccessTokenLifetime: issuer.None},
		"authorization_code_lifetime": {CodeLifetime: issuer.None},
		"at most 10m":                 {CodeLifetime: issuer.Lifetime(10*time.Minute + time.Millisecond)},
		"refresh_token_retry_window":  {RetryWindow: issuer.Lifetime(time.Hour + time.Millisecond)},
		"refresh_token_rotation":      {Rotation: "sometimes"},
		"access_token_format":         {Format: "xml"},
		"access_token_signing_alg":    {SigningAlg: "none"},
		"whole milliseconds":          {RefreshTokenLifetime: issuer.Lifetime(time.Hour + 1)},
		"ES256, EdDSA, RS256":         {SigningAlg: "HS256"},
	} {
		if err := policy.Check(); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%+v: %v, which does not name %s", policy, err, names)
		}
	}
}

func TestGrantID(t *testing.T) {
	id := issuer.NewGrantID()
	back, err := issuer.ParseGrantID(id.String())
	if err != nil || back != id || id.IsZero() || len(id.String()) != 32 {
		t.Errorf("%s, %v", back, err)
	}
	if id == issuer.NewGrantID() {
		t.Error("two random numbers are one")
	}
	for _, text := range []string{"", "x", id.String()[:31], id.String() + "00", strings.Repeat("g", 32)} {
		if got, err := issuer.ParseGrantID(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
	var event issuer.Event
	text, err := json.Marshal(issuer.Event{Grant: id, Type: "x"})
	if err != nil || json.Unmarshal(text, &event) != nil || event.Grant != id {
		t.Errorf("%s, %v", text, err)
	}
	if text, err := json.Marshal(issuer.Event{}); err != nil || strings.Contains(string(text), "grant") {
		t.Errorf("an event without a grant has one: %s", text)
	}
	var zero issuer.GrantID
	if text, err := zero.MarshalText(); len(text) != 0 || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := id.UnmarshalText(nil); err != nil || !id.IsZero() {
		t.Errorf("%s, %v", id, err)
	}
	if err := id.UnmarshalText([]byte("x")); err == nil {
		t.Error("nonsense was read")
	}
}

// TestLive is the table of what ends a grant, at the exact moment.
func TestLive(t *testing.T) {
	at := time.Date(2031, 5, 17, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		grant issuer.Grant
		live  bool
	}{
		"never expires":         {issuer.Grant{Generation: 1}, true},
		"before its expiry":     {issuer.Grant{Generation: 1, ExpiresAt: at.Add(1)}, true},
		"at its expiry":         {issuer.Grant{Generation: 1, ExpiresAt: at}, false},
		"code at its expiry":    {issuer.Grant{ExpiresAt: at}, false},
		"before its end":        {issuer.Grant{Generation: 1, EndsAt: at.Add(1)}, true},
		"at its end":            {issuer.Grant{Generation: 1, EndsAt: at}, false},
		"revoked in the future": {issuer.Grant{Generation: 1, RevokedAt: at.Add(time.Hour)}, false},
	} {
		if c.grant.Live(at) != c.live {
			t.Errorf("%s: live=%t", name, !c.live)
		}
	}
}
