package profile_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

func seconds(n int64) *int64 { return &n }

// TestDefaults are those of the other servers.
func TestDefaults(t *testing.T) {
	all := profile.All(profile.Options{})
	if names := slices.Sorted(maps.Keys(all)); !slices.Equal(names, profile.Names()) {
		t.Fatalf("profiles %v, names %v", names, profile.Names())
	}
	day := 24 * time.Hour
	for name, want := range map[string]issuer.Policy{
		profile.NameFOS: {
			AccessTokenLifetime: issuer.Lifetime(time.Hour), RefreshTokenLifetime: issuer.Lifetime(14 * day), CodeLifetime: issuer.Lifetime(30 * time.Second),
			Rotation: issuer.RotateAlways, Format: issuer.FormatOpaque, PKCE: issuer.PKCEPublicClients,
		},
		profile.NameBshaffer: {
			AccessTokenLifetime: issuer.Lifetime(time.Hour), RefreshTokenLifetime: issuer.Lifetime(14 * day), CodeLifetime: issuer.Lifetime(30 * time.Second),
			Rotation: issuer.RotateOnce, Format: issuer.FormatOpaque, PKCE: issuer.PKCEPublicClients,
		},
		profile.NameEventix: {
			AccessTokenLifetime: issuer.Lifetime(3 * day), RefreshTokenLifetime: issuer.Lifetime(365 * day),
			Rotation: issuer.RotateAlways, Format: issuer.FormatOpaque, PKCE: issuer.PKCEPublicClients,
		},
	} {
		p := all[name]
		if p.Name != name || p.Policy != want {
			t.Errorf("%s: %+v, want %+v", name, p.Policy, want)
		}
		if err := p.Policy.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p.Implicit {
			t.Errorf("%s has the implicit grant, which nobody asked for", name)
		}
	}
	if err := (profile.Options{}).Check(); err != nil {
		t.Error(err)
	}
	for name, warnings := range (profile.Options{}).Warnings() {
		if len(warnings) != 0 {
			t.Errorf("%s: %v", name, warnings)
		}
	}
}

// TestBadOptions: each is refused with its key and what to write.
func TestBadOptions(t *testing.T) {
	for says, o := range map[string]profile.Options{
		"access_token_lifetime must be":    {FOS: profile.FOSOptions{AccessTokenLifetime: -1}},
		"refresh_token_lifetime must be":   {FOS: profile.FOSOptions{RefreshTokenLifetime: 1 << 60}},
		"auth_code_lifetime must be":       {FOS: profile.FOSOptions{AuthCodeLifetime: 601}},
		"must not have cache-control":      {FOS: profile.FOSOptions{ResponseExtraHeaders: map[string]string{"cache-control": "public"}}},
		"must not have Pragma":             {FOS: profile.FOSOptions{ResponseExtraHeaders: map[string]string{"Pragma": "x"}}},
		"access_lifetime 0 does not":       {Bshaffer: profile.BshafferOptions{AccessLifetime: seconds(0)}},
		"access_lifetime must be":          {Bshaffer: profile.BshafferOptions{AccessLifetime: seconds(-1)}},
		"refresh_token_lifetime must be f": {Bshaffer: profile.BshafferOptions{RefreshTokenLifetime: seconds(-1)}},
		"auth_code_lifetime must be f":     {Bshaffer: profile.BshafferOptions{AuthCodeLifetime: seconds(0)}},
		"auth_code_lifetime must be from":  {Bshaffer: profile.BshafferOptions{AuthCodeLifetime: seconds(601)}},
		"default_scope is never used":      {Bshaffer: profile.BshafferOptions{RequireScope: true, DefaultScope: oauth.Scope{"read"}}},
	} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", o, err, says)
		}
	}
	good := profile.Options{
		FOS:      profile.FOSOptions{AccessTokenLifetime: 1, RefreshTokenLifetime: 100 * 365 * 86400, AuthCodeLifetime: 600},
		Bshaffer: profile.BshafferOptions{AccessLifetime: seconds(1), RefreshTokenLifetime: seconds(0), AuthCodeLifetime: seconds(600)},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, p := range profile.All(good) {
		if err := p.Policy.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLifetimes: what 0 means, which is not the same anywhere.
func TestLifetimes(t *testing.T) {
	fos := profile.FOS(profile.FOSOptions{AccessTokenLifetime: 60}).Policy
	if fos.AccessTokenLifetime != issuer.Lifetime(time.Minute) || fos.RefreshTokenLifetime != issuer.Lifetime(14*24*time.Hour) {
		t.Errorf("fos: %+v", fos)
	}
	if p := profile.Bshaffer(profile.BshafferOptions{RefreshTokenLifetime: seconds(0)}).Policy; p.RefreshTokenLifetime != issuer.None {
		t.Errorf("bshaffer: %+v", p)
	}
}

// TestUnsafe: what is not safe is had where it is named, and nowhere else.
func TestUnsafe(t *testing.T) {
	every := slices.Sorted(maps.Keys(issuer.Compatibilities()))
	wish := profile.BshafferOptions{AlwaysIssueNewRefreshToken: &yes, UnsetRefreshTokenAfterUse: &no, RequireExactRedirectURI: &no, AllowImplicit: true}
	type had struct {
		implicit  bool
		redirects issuer.RedirectMatching
		pkce      issuer.PKCEPolicy
		rotation  issuer.RotationPolicy
	}
	of := func(p *issuer.Profile) had {
		return had{p.Implicit, p.Policy.Redirects, p.Policy.PKCE, p.Policy.Rotation}
	}
	for _, c := range []struct {
		what string
		p    *issuer.Profile
		want had
	}{
		{"fos", profile.FOS(profile.FOSOptions{}), had{false, "", issuer.PKCEPublicClients, issuer.RotateAlways}},
		{"fos, all of it", profile.FOS(profile.FOSOptions{Unsafe: every}), had{true, issuer.RedirectPrefix, issuer.PKCENever, issuer.RotateAlways}},
		{"bshaffer that asks for all", profile.Bshaffer(wish), had{false, "", issuer.PKCEPublicClients, issuer.RotateAlways}},
		{"bshaffer that asks for nothing", profile.Bshaffer(profile.BshafferOptions{Unsafe: every}), had{false, "", issuer.PKCENever, issuer.RotateOnce}},
		{"bshaffer, all of it", profile.All(profile.Options{Bshaffer: wish, Unsafe: every})[profile.NameBshaffer], had{true, issuer.RedirectPrefix, issuer.PKCENever, issuer.RotateAdditive}},
		{"bshaffer with PKCE", profile.Bshaffer(profile.BshafferOptions{EnforcePKCE: true, Unsafe: every}), had{false, "", issuer.PKCEAlways, issuer.RotateOnce}},
		{"eventix, all of it", profile.All(profile.Options{Unsafe: every})[profile.NameEventix], had{false, "", issuer.PKCENever, issuer.RotateAlways}},
	} {
		if got := of(c.p); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
	// What is asked for and not had is said, with the word that permits it.
	warnings := strings.Join(profile.Options{Bshaffer: wish}.Warnings()[profile.NameBshaffer], "\n")
	for _, c := range []issuer.Compatibility{issuer.UnsafeAdditive, issuer.UnsafeImplicit, issuer.UnsafeRedirectPrefix} {
		if !strings.Contains(warnings, string(c)) {
			t.Errorf("nobody is told of %s: %s", c, warnings)
		}
	}
	if left := (profile.Options{Bshaffer: wish, Unsafe: every}).Warnings()[profile.NameBshaffer]; len(left) != 0 {
		t.Errorf("warnings %v", left)
	}
}

// TestOptionsSpread: a list for all is not written into the options it was given.
func TestOptionsSpread(t *testing.T) {
	backing := make([]issuer.Compatibility, 1, 8)
	backing[0] = issuer.UnsafeImplicit
	o := profile.Options{FOS: profile.FOSOptions{Unsafe: backing}, Unsafe: []issuer.Compatibility{issuer.UnsafeRedirectPrefix}}
	profile.All(o)
	if len(o.FOS.Unsafe) != 1 || backing[:2][1] != "" {
		t.Errorf("options became %+v", o)
	}
}

// TestOptionsMarshal: the options print as the keys of a configuration.
func TestOptionsMarshal(t *testing.T) {
	o := profile.Options{
		FOS:      profile.FOSOptions{RefreshTokenLifetime: 60, SupportedScopes: oauth.Scope{"a"}},
		Bshaffer: profile.BshafferOptions{AlwaysIssueNewRefreshToken: &no, AccessLifetime: seconds(5)},
		Unsafe:   []issuer.Compatibility{issuer.UnsafeImplicit},
	}
	text, err := json.Marshal(o)
	want := `{"fos":{"refresh_token_lifetime":60,"supported_scopes":["a"]},"bshaffer":{"access_lifetime":5,"always_issue_new_refresh_token":false},"unsafe_compatibility":["implicit"]}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

// TestErrorTexts: what profiles tell has codes of the RFCs or of the libraries, and
// no status but 400, 401 and 405.
func TestErrorTexts(t *testing.T) {
	for name, p := range profile.All(profile.Options{}) {
		tables := []map[issuer.Cause]oauth.Error{p.Errors, p.CodeErrors}
		for _, table := range tables {
			for cause, told := range table {
				if told.Code == "" || told.Description == "" && told.Code != oauth.UnsupportedGrantType && told.Code != oauth.UnsupportedResponseType {
					t.Errorf("%s, %s: %+v", name, cause, told)
				}
				if !slices.Contains([]int{400, 401, 405}, told.Status) || told.URI != "" && !strings.HasPrefix(told.URI, "http://tools.ietf.org/html/rfc6749#section-") {
					t.Errorf("%s, %s: status %d, %s", name, cause, told.Status, told.URI)
				}
			}
		}
		for _, own := range []issuer.Cause{issuer.CauseClientThrottled, issuer.CauseLoginThrottled} {
			if _, ok := p.Errors[own]; ok {
				t.Errorf("%s tells of %s in its own words", name, own)
			}
		}
	}
}

// TestOwnRefusals: what those servers do not have is told in our own form.
func TestOwnRefusals(t *testing.T) {
	t.Parallel()
	s := bshafferSite(t, profile.BshafferOptions{})
	good := s.login(testClient).get("refresh_token")
	for range 10 {
		s.post("TestClient:wrong", login).want(400)
		s.post(testClient, "grant_type=password&username=bshaffer&password=wrong").want(401)
	}
	for _, r := range []reply{s.post("TestClient:wrong", login), s.post(testClient, login)} {
		if r.want(429); r.get("error") != oauth.TemporarilyUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("answer %v %s", r.header, r.body)
		}
	}
	s.must(s.db.Close())
	if r := s.refresh(testClient, good).want(503); r.get("error") != oauth.TemporarilyUnavailable || r.header.Get("Retry-After") == "" {
		t.Errorf("answer %v %s", r.header, r.body)
	}
}

// TestHabits: what clients of a profile rely on is counted for them.
func TestHabits(t *testing.T) {
	t.Parallel()
	s := bshafferSite(t, profile.BshafferOptions{})
	first := s.login(testClient).get("refresh_token")
	s.refresh(testClient, first)
	s.refresh(testClient, first)
	s.send("POST", "/revoke", "token="+s.login(testClient).get("access_token"), formHeader)
	narrow := s.login(testClient, "&scope=read write").get("refresh_token")
	s.refresh(testClient, narrow, "&scope=read")
	listed, err := s.admin.Habits(s.ctx(), issuer.UseFilter{ClientID: "TestClient"})
	s.must(err)
	got := map[issuer.Habit]int64{}
	for _, use := range listed {
		got[use.Habit] = use.Count
	}
	want := map[issuer.Habit]int64{
		issuer.HabitPassword: 3, issuer.HabitNoSuccessor: 3, issuer.HabitRetry: 1, issuer.HabitOpenRevocation: 1, issuer.HabitNarrowed: 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
