package profile_test

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
)

// codeOf gets a code of an authorization request, which is not written down.
func (x *talk) codeOf(pairs ...string) string {
	x.t.Helper()
	var code string
	x.unwritten(func() {
		r := x.ask(pairs...)
		if code = r.carried().Get("code"); code == "" {
			x.t.Fatalf("no code: %d %v %s", r.status, r.header, r.body)
		}
	})
	return code
}

// redeemWith sends a token request for a code. Pairs of names and values replace
// its parameters; an empty value leaves one out.
func (x *talk) redeemWith(as, code string, pairs ...string) reply {
	x.t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}}
	for pair := range slices.Chunk(pairs, 2) {
		form.Del(pair[0])
		if pair[1] != "" {
			form.Set(pair[0], pair[1])
		}
	}
	header := basic(as)
	if !strings.Contains(as, ":") {
		form.Set("client_id", as)
		header = ""
	}
	return x.send(http.MethodPost, x.profile.TokenPath, form.Encode(), header, formHeader)
}

// wrongCode is a token request that must not spend its code.
type wrongCode struct {
	title, as string
	pairs     []string
}

// TestAuthorizeCodeTranscript is the transcript of the redemption of codes. A wrong
// request spends nothing, and a code that comes twice ends its grant.
func TestAuthorizeCodeTranscript(t *testing.T) {
	for _, name := range everyProfile {
		t.Run(cmp.Or(name, "standard"), func(t *testing.T) {
			t.Parallel()
			x := newTalk(t, issuer.Config{Profile: name, Policy: issuer.Policy{PKCE: issuer.PKCEPublicClients, Format: issuer.FormatOpaque}})
			x.registerAll()
			x.wrongCodes()
			x.wrongVerifiers()
			if n := len(x.events(issuer.EventCodeReplayed)); n != 0 {
				t.Errorf("%d convictions before a code came twice", n)
			}
			x.lateCodes()
			x.replayedCode()
			x.compare(transcriptOf("authorize", cmp.Or(name, "standard")+"_code"))
		})
	}
}

func (x *talk) wrongCodes() {
	for _, c := range []wrongCode{
		{"no code", webClient, []string{"code", ""}},
		{"no code and no redirect URI", webClient, []string{"code", "", "redirect_uri", ""}},
		{"no redirect URI", webClient, []string{"redirect_uri", ""}},
		{"a code that is none", webClient, []string{"code", "nonsense"}},
		{"a code that is none, and no redirect URI", webClient, []string{"code", "nonsense", "redirect_uri", ""}},
		{"another client's code", twoClient, nil},
		{"another client's code and another redirect URI", twoClient, []string{"redirect_uri", callback + "/two"}},
		{"another client's code, and the client may not use codes", machineClient, nil},
		{"another redirect URI", webClient, []string{"redirect_uri", callback + "/deeper"}},
		{"a code_verifier, and there was no code_challenge", webClient, []string{"code_verifier", verifier}},
		{"more scope than was granted", webClient, []string{"scope", "read admin"}},
		{"a scope that is none", webClient, []string{"scope", `re"ad`}},
		{"good", webClient, nil},
		{"good, with less scope", webClient, []string{"scope", "read"}},
	} {
		x.section("%s", c.title)
		code := x.codeOf("scope", "read write")
		if r := x.redeemWith(c.as, code, c.pairs...); r.status != http.StatusOK {
			x.wantUnspent(webClient, code)
		}
	}
}

func (x *talk) wrongVerifiers() {
	for _, c := range []wrongCode{
		{"no code_verifier", webClient, nil},
		{"a code_verifier that is too short", webClient, []string{"code_verifier", verifier[:42]}},
		{"a code_verifier with a plus", webClient, []string{"code_verifier", verifier[:42] + "+"}},
		{"the code_challenge as the code_verifier", webClient, []string{"code_verifier", codeChallenge}},
		{"another redirect URI and no code_verifier", webClient, []string{"redirect_uri", callback + "/deeper"}},
		{"another redirect URI and another code_verifier", webClient, []string{"redirect_uri", callback + "/deeper", "code_verifier", codeChallenge}},
		{"another client's code and no code_verifier", twoClient, nil},
		{"another client's code with its code_verifier", twoClient, []string{"code_verifier", verifier}},
		{"good, with a code_verifier", webClient, []string{"code_verifier", verifier}},
	} {
		x.section("%s", c.title)
		code := x.codeOf(append(withPKCE, "scope", "read write")...)
		if r := x.redeemWith(c.as, code, c.pairs...); r.status != http.StatusOK {
			x.wantUnspent(webClient, code, "code_verifier", verifier)
		}
	}
	x.section("a public client")
	code := x.codeOf(asMobile(withPKCE...)...)
	x.redeemWith(mobileClient, code, "redirect_uri", mobileCallback)
	x.redeemWith(mobileClient, code, "redirect_uri", mobileCallback, "code_verifier", verifier)
}

// wantUnspent redeems a code that nothing before may have spent.
func (x *talk) wantUnspent(as, code string, pairs ...string) {
	x.t.Helper()
	x.unwritten(func() {
		if r := x.redeemWith(as, code, pairs...); r.status != http.StatusOK {
			x.t.Errorf("a wrong request spent the code: %d %s", r.status, r.body)
		}
	})
}

// lateCodes are codes that have expired, and one at its last moment: the older
// servers let the second end.
func (x *talk) lateCodes() {
	x.section("late")
	lives := time.Minute
	if x.profile.WholeSeconds {
		lives = 30*time.Second + 750*time.Millisecond
	}
	last, late, proven := x.codeOf(), x.codeOf(), x.codeOf(withPKCE...)
	x.later((lives - time.Millisecond).Seconds())
	x.redeemWith(webClient, last).want(http.StatusOK)
	x.later(0.001)
	x.redeemWith(webClient, late)
	x.note("and another redirect URI")
	x.redeemWith(webClient, late, "redirect_uri", callback+"/deeper")
	x.note("and no code_verifier")
	x.redeemWith(webClient, proven)
	x.note("and another client")
	x.redeemWith(twoClient, late)
	x.later(120)
	purged, err := x.admin.Purge(x.ctx())
	x.must(err)
	if purged.Grants == 0 {
		x.t.Error("expired codes were not purged")
	}
	x.redeemWith(webClient, late)
	x.redeemWith(webClient, late, "redirect_uri", callback+"/deeper")
}

// replayedCode is a code that comes twice.
func (x *talk) replayedCode() {
	x.section("twice")
	code := x.codeOf("scope", "read")
	tokens := x.redeemWith(webClient, code).want(http.StatusOK)
	x.note("and another redirect URI")
	x.redeemWith(webClient, code, "redirect_uri", callback+"/deeper")
	x.note("and another client")
	x.redeemWith(twoClient, code)
	if n := len(x.events(issuer.EventCodeReplayed)); n != 0 {
		x.t.Errorf("%d convictions for requests that were wrong in another way", n)
	}
	x.note("and all is right")
	x.redeemWith(webClient, code)
	x.redeemWith(webClient, code)
	events := x.events(issuer.EventCodeReplayed)
	if len(events) != 1 || events[0].Cause != issuer.CauseCodeReplayed || events[0].ClientID != "web" {
		x.t.Errorf("convictions %+v", events)
	}
	if seen, _, err := x.server.Inspect(x.ctx(), tokens.get("access_token")); err != nil || seen.Active {
		x.t.Errorf("the access token of a code that came twice is active: %v", err)
	}
}

// TestAuthorizeNotes: each genuine code with a wrong request is noted once, with
// the part that was wrong.
func TestAuthorizeNotes(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameBshaffer})
	x.registerAll()
	for want, request := range map[issuer.Cause]wrongCode{
		issuer.CauseRedirectMismatch: {"", webClient, []string{"redirect_uri", callback + "/deeper", "code_verifier", verifier}},
		issuer.CauseVerifierMissing:  {"", webClient, nil},
		issuer.CauseVerifierSyntax:   {"", webClient, []string{"code_verifier", "short"}},
		issuer.CauseVerifierMismatch: {"", webClient, []string{"code_verifier", codeChallenge}},
		issuer.CauseCodeClient:       {"", twoClient, []string{"code_verifier", verifier}},
	} {
		code, before := x.codeOf(withPKCE...), len(x.events(issuer.EventGrantRefused))
		for range 3 {
			x.redeemWith(request.as, code, request.pairs...).want(http.StatusBadRequest)
		}
		events := x.events(issuer.EventGrantRefused)
		id, _, _ := strings.Cut(request.as, ":")
		if len(events) != before+1 || events[0].Cause != issuer.CauseCodeBinding || events[0].Detail != string(want) || events[0].ClientID != id {
			t.Errorf("%s: events %+v", want, events[:len(events)-before])
		}
	}
}

// TestAuthorizeRedirectRepeated: the redirect_uri of a token request may be left
// out where the authorization request left it out, and else as the profile has it.
func TestAuthorizeRedirectRepeated(t *testing.T) {
	t.Parallel()
	fos, bshaffer := profile.FOS(profile.FOSOptions{}), profile.Bshaffer(profile.BshafferOptions{})
	lax := profile.FOS(profile.FOSOptions{EnforceRedirect: new(bool)})
	for name, c := range map[string]struct {
		profile     *issuer.Profile
		asked, sent string
		status      int
	}{
		"fos":                             {fos, callback, callback, 200},
		"fos, left out then":              {fos, callback, "", 400},
		"fos, not enforced, never":        {lax, "", "", 200},
		"fos, not enforced, then":         {lax, "", callback, 200},
		"fos, not enforced, at first":     {lax, callback, "", 200},
		"fos, not enforced, then another": {lax, "", callback + "/x", 400},
		"bshaffer":                        {bshaffer, callback, callback, 200},
		"bshaffer, never":                 {bshaffer, "", "", 200},
		"bshaffer, then":                  {bshaffer, "", callback, 200},
		"bshaffer, at first":              {bshaffer, callback, "", 400},
		"bshaffer, then another":          {bshaffer, "", callback + "/x", 400},
		"eventix, at first":               {profile.Eventix(profile.EventixOptions{}), callback, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTalk(t, issuer.Config{Profile: "p", Profiles: map[string]*issuer.Profile{"p": c.profile}})
			x.registerAll()
			code := x.codeOf("redirect_uri", c.asked)
			x.redeemWith(webClient, code, "redirect_uri", c.sent).want(c.status)
			if c.status != 200 {
				x.wantUnspent(webClient, code, "redirect_uri", c.asked)
			}
		})
	}
}

// TestAuthorizeCodeScope: less scope with a code binds the refresh token too.
func TestAuthorizeCodeScope(t *testing.T) {
	t.Parallel()
	for _, name := range []string{profile.NameFOS, profile.NameBshaffer} {
		x := newTalk(t, issuer.Config{Profile: name, Policy: issuer.Policy{Rotation: issuer.RotateAlways}})
		x.registerAll()
		tokens := x.redeemWith(webClient, x.codeOf("scope", "read write"), "scope", "read").want(http.StatusOK)
		if tokens.get("scope") != "read" || x.grants()[0].Scope.String() != "read" {
			t.Errorf("%s: scope %q, grants %+v", name, tokens.get("scope"), x.grants())
		}
		refreshed := x.refresh(webClient, tokens.get("refresh_token")).want(http.StatusOK)
		x.refresh(webClient, refreshed.get("refresh_token"), "&scope=read+write").want(http.StatusBadRequest)
	}
}

// TestAuthorizeForbiddenLater: a client that has lost the grant type between the
// request and the redemption hears of its code first where the profile has it so.
func TestAuthorizeForbiddenLater(t *testing.T) {
	t.Parallel()
	x := newTalk(t, issuer.Config{Profile: profile.NameBshaffer})
	x.registerAll()
	good, spent, late := x.codeOf(), x.codeOf(), x.codeOf()
	x.redeemWith(webClient, spent).want(http.StatusOK)
	x.client(webClient, issuer.Client{GrantTypes: []string{"refresh_token"}})
	for name, c := range map[string]struct {
		code, err string
		pairs     []string
	}{
		"good":         {good, "unauthorized_client", nil},
		"none":         {"", "invalid_request", nil},
		"forged":       {good + "x", "invalid_grant", nil},
		"redirect":     {good, "redirect_uri_mismatch", []string{"redirect_uri", callback + "/x"}},
		"spent":        {spent, "invalid_grant", nil},
		"verifier":     {good, "code_verifier_mismatch", []string{"code_verifier", verifier}},
		"with a scope": {good, "unauthorized_client", []string{"scope", "read"}},
	} {
		if r := x.redeemWith(webClient, c.code, c.pairs...); r.get("error") != c.err {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	x.later(31)
	if r := x.redeemWith(webClient, late); r.get("error_description") != "The authorization code has expired" {
		t.Errorf("late: %d %s", r.status, r.body)
	}
	if n := len(x.events(issuer.EventCodeReplayed)); n != 0 {
		t.Errorf("%d convictions by a client that may not use codes", n)
	}
}
