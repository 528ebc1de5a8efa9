package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/issuer"
)

// command is one command of a script, and what it must come to. The texts are
// regular expressions; "" is anything.
type command struct {
	args       string
	stdin      string
	code       int
	out, error string
}

func (s *running) script(t *testing.T, commands []command) {
	t.Helper()
	for _, c := range commands {
		r := s.run(c.stdin, strings.Fields(c.args)...)
		if r.code != c.code {
			t.Errorf("$ evergrant %s\nstatus %d, want %d\n%s%s", c.args, r.code, c.code, r.out, r.stderr)
		}
		if !regexp.MustCompile(c.out).MatchString(r.out) {
			t.Errorf("$ evergrant %s\nstdout %q, want %s", c.args, r.out, c.out)
		}
		if !regexp.MustCompile(c.error).MatchString(r.stderr) {
			t.Errorf("$ evergrant %s\nstderr %q, want %s", c.args, r.stderr, c.error)
		}
	}
}

func TestClientCommands(t *testing.T) {
	s := start(t, t.TempDir(), "")
	s.script(t, []command{
		{args: "client list", out: `^$`, error: "^no clients yet; register one with `evergrant client create ID`\n$"},
		{args: "client list --json", out: `^\[\]\n$`, error: `^$`},
		{args: "client create web --redirect-uri https://a.example/1,2 --redirect-uri https://a.example/cb --scope read,write --name Web --refresh-token-lifetime 30d --refresh-token-retry-window 0",
			out: `(?s)^id +web\nname +Web\nkind +confidential\nsecret +egs_\S{43}\nsecrets in force +1\nsecrets are kept as +hmac-sha256\ngrant types +authorization_code refresh_token\n` +
				`redirect URIs +https://a.example/1,2 https://a.example/cb\nscopes +read write\nrefresh_token_lifetime +30d\nrefresh_token_retry_window +0\ncreated +\S+\nupdated +\S+\n$`,
			error: `^the secret is shown this once; keep it now\n$`},
		{args: "client create web", code: exitFailed, out: `^$`, error: "^evergrant: client web exists already\nchange it with `evergrant client update web`"},
		{args: "client create app --public", out: `kind +public\nsecrets in force +0\n`, error: `^$`},
		{args: "client create job --grant-type client_credentials --secret-stdin", stdin: "a secret of my own\n", out: `kind +confidential\nsecrets in force`, error: `^$`},
		{args: "client create bad --secret-stdin", code: exitUsage, error: `^evergrant: the secret must be one line that is not empty\n.`},
		{args: "client create bad --secret-stdin", stdin: "two\nlines\n", code: exitUsage, error: `^evergrant: the secret must be one line`},
		{args: "client create bad --secret-stdin", stdin: strings.Repeat("x", 65<<10), code: exitUsage, error: `longer than 64 KiB`},
		{args: "client create bad --grant-type saml", code: exitFailed, error: `(?i)^evergrant: .*saml.*\n.`},
		{args: "client create bad --public --grant-type client_credentials", code: exitFailed, error: `^evergrant: .*client_credentials needs a secret`},
		{args: "client create bad --access-token-lifetime forever", code: exitFailed, error: `^evergrant: .*\n.`},
		{args: "client list", out: `^ID +NAME +KIND .*\napp +- +public .*\njob +- +confidential +client_credentials +\(all\) .*\nweb +Web +confidential +authorization_code refresh_token +read write +- +\d{4}-`},
		{args: "client show web --json", out: `"refresh_token_lifetime": "30d"`},
		{args: "client update web --name= --scope read --trusted --access-token-format opaque", out: `(?s)^id +web\nkind .*scopes +read\ntrusted +yes.*access_token_format +opaque`},
		{args: "client update web --refresh-token-lifetime= --trusted=false", out: `(?s)^id +web\nkind`},
		{args: "client update web --access-token-signing-alg none", code: exitFailed, error: `access_token_signing_alg`},
		{args: "client update web --profile bshaffer --require-pkce public_clients --redirect-matching exact --refresh-token-rotation once",
			out: `(?s)\nprofile +bshaffer\n.*refresh_token_rotation +once\n.*require_pkce +public_clients\nredirect_matching +exact\n`, error: `^$`},
		{args: "client update web --refresh-token-rotation always", out: `(?s)\nprofile +bshaffer\n.*refresh_token_rotation +always\n.*require_pkce +public_clients\n`},
		{args: "client update web --require-pkce always", out: `\nrequire_pkce +always\nredirect_matching +exact\n`},
		{args: "client update web --profile= --require-pkce= --redirect-matching= --refresh-token-rotation=", out: `\nscopes +read\nrefresh_token_retry_window +0\naccess_token_format +opaque\ncreated`},
		{args: "client update web --profile foo", code: exitFailed, error: `^evergrant: .*there is no profile "foo"; write one of bshaffer, eventix, fos, standard\n.`},
		{args: "client update web --refresh-token-rotation additive", code: exitFailed, error: `^evergrant: .*needs unsafe_compatibility: \[additive_refresh_tokens\]`},
		{args: "client create old --profile fos --require-pkce public_clients --redirect-matching exact --grant-type implicit", out: `(?s)grant types +implicit\n.*profile +fos\n`},
		{args: "client delete old"},
		{args: "client update nobody --name x", code: exitFailed, error: "^evergrant: there is no client nobody on this server\n`evergrant client list` shows what there is\n$"},
		{args: "client rotate-secret web --keep-old", out: `secret +egs_\S{43}\nsecrets in force +2\n`, error: "keep it now\nthe old secret still works; once the client uses the new one, run `evergrant client update web --drop-old-secrets`\n$"},
		{args: "client update web --drop-old-secrets", out: `secrets in force +1\n`, error: `^$`},
		{args: "client rotate-secret web --secret-stdin", stdin: "another secret", out: `secrets in force +1\n`, error: `^$`},
		{args: "client rotate-secret web --json", out: `"secret": "egs_\S{43}"`, error: `^$`},
		{args: "client rotate-secret nobody", code: exitFailed, error: `^evergrant: there is no client nobody`},
		{args: "client delete web", out: `^deleted client web and revoked its grants\n$`},
		{args: "client delete web", code: exitFailed, error: `^evergrant: there is no client web on this server\n`},
		{args: "client delete app --json", out: `^{\n  "deleted": true\n}\n$`},
		{args: "client show app", code: exitFailed, error: `^evergrant: there is no client app on this server\n`},
	})
	if web := s.run("", "client", "update", "job", "--refresh-token-lifetime", "1h", "--json"); document[evergrant.Registration](t, web.out).RefreshTokenLifetime != "1h" {
		t.Errorf("update: %s", web.out)
	}
}

func TestUserCommands(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	s.script(t, []command{
		{args: "user list", out: `^USERNAME +DECLARED +CREATED +UPDATED\nbshaffer +yes +\S+ +\S+\n$`},
		{args: "user create ann --password-stdin", stdin: "correct horse\r\n", out: `^username +ann\ncreated +\S+\nupdated +\S+\n$`},
		{args: "user create ann --password-stdin", stdin: "x", code: exitFailed, error: "^evergrant: user ann exists already\nchange it with `evergrant user passwd ann`"},
		{args: `user create carl --password-stdin --info {"z":1,"a":["x"]}`, stdin: "correct horse", out: `^username +carl\ninfo +\{"z":1,"a":\["x"\]\}\ncreated`},
		{args: "user show carl --json", out: `(?s)"info": \{\n    "z": 1,\n    "a": \[\n +"x"\n +\]\n  \}`},
		{args: `user update carl --info {"b":{}}`, out: `^username +carl\ninfo +\{"b":\{\}\}\n`},
		{args: "user update carl --info=", out: `^username +carl\ncreated`},
		{args: "user update carl --info []", code: exitUsage, error: `it is not a JSON object`},
		{args: "user create dora --info null --password-stdin", stdin: "x", code: exitUsage, error: `it is not a JSON object`},
		{args: "user update carl --info {} --password-stdin", stdin: "x", code: exitUsage, error: `^evergrant: give --info or --password-stdin, not both\n`},
		{args: "user update carl --password-stdin", stdin: "battery staple", out: `^username +carl\n`},
		{args: "user update carl", code: exitUsage, error: `no terminal`},
		{args: "user update nobody --info {}", code: exitFailed, error: `^evergrant: there is no user nobody on this server`},
		{args: "user delete carl"},
		{args: "user create bob", code: exitUsage, error: "^evergrant: no terminal to ask for the password\nsend it with --password-stdin"},
		{args: "user create bob --password-stdin", code: exitUsage, error: `^evergrant: the password must be one line that is not empty`},
		{args: "user list --json", out: `"username": "ann"`},
		{args: "user show ann", out: `^username +ann\n`},
		{args: "user show ann --json", out: `"username": "ann"`},
		{args: "user passwd ann --password-stdin", stdin: "battery staple", out: `^username +ann\n`},
		{args: "user passwd nobody --password-stdin", stdin: "x", code: exitFailed, error: `^evergrant: there is no user nobody on this server`},
		{args: "user passwd ann", code: exitUsage, error: `no terminal`},
		{args: "user delete ann", out: `^deleted user ann and revoked the grants that the user gave\n$`},
		{args: "user delete ann", code: exitFailed, error: `^evergrant: there is no user ann`},
		{args: "user show ann", code: exitFailed, error: `^evergrant: there is no user ann`},
		{args: "user delete bshaffer"},
		{args: "user list", out: `^$`, error: "^no users yet; add one with `evergrant user create NAME`\n$"},
	})
}

func TestGrantCommands(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	s.script(t, []command{
		{args: "grant list", out: `^$`, error: `^no such grants; a grant is made when`},
		{args: "grant list --json", out: `^\[\]\n$`},
	})
	first, second := s.login(), s.login()
	s.refresh(first.Refresh)
	grants := s.grants()
	if len(grants) != 2 {
		t.Fatalf("grants are %+v", grants)
	}
	renewed := grants[0].ID
	if grants[1].Generation == 2 {
		renewed = grants[1].ID
	}
	s.script(t, []command{
		{args: "grant list", out: `^ID +CLIENT +SUBJECT +SCOPE +GENERATION +STATE +RENEWED +EXPIRES\n[0-9a-f]{32} +TestClient +bshaffer +read write +[12] +alive +\S+ +\S+\n`},
		{args: "grant list --limit 1", out: `^.*\n.*\n$`, error: `^only the first 1 are shown; --limit 0 shows all\n$`},
		{args: "grant list --client TestClient --subject bshaffer --limit 0", out: `^(.*\n){3}$`, error: `^$`},
		{args: "grant list --client other", out: `^$`, error: `^no such grants`},
		{args: "grant show " + renewed, out: `^grant +` + renewed + `\nclient +TestClient\nsubject +bshaffer\nscope +read write\nstate +alive\ngeneration +2\nanswers given again +0\n`},
		{args: "grant show " + renewed + " --json", out: `"generation": 2`},
		{args: "explain " + renewed, out: `(?s)^alive +.*generation 2.*\ntime line\n\S+ +grant.created +`},
		{args: "explain " + second.Refresh, out: `^alive +`},
		{args: "explain -", stdin: second.Access + "\n", out: `^alive +`},
		{args: "explain - --json", stdin: second.Refresh, out: `"kind": "refresh_token"`},
		{args: "grant revoke " + renewed, out: `^revoked grant ` + renewed + `\n$`},
		{args: "grant delete " + renewed + " --json", out: `"revoked": true`},
		{args: "grant show " + renewed, out: `state +revoked: operator_request\n`},
		{args: "explain " + renewed, out: `(?s)^dead +.*\ncause +grant_revoked\nrepair +\S.*time line\n.*grant\.revoked +operator_request +operator +127\.0\.0\.1`},
		{args: "grant show 00000000000000000000000000000000", code: exitFailed, error: `^evergrant: there is no grant 0{32} on this server\n`},
		{args: "grant revoke --client nobody", out: `^revoked 0 grants\n$`},
		{args: "grant revoke --client nobody " + renewed, code: exitUsage, error: `give the ID of a grant, or --client or --subject`},
		{args: "grant revoke", code: exitUsage, error: `give the ID of a grant, or --client or --subject`},
		{args: "grant revoke 00000000000000000000000000000000", code: exitFailed, error: `^evergrant: there is no grant 0{32} on this server\n`},
		{args: "grant show x", code: exitFailed, error: `^evergrant: .*32 hexadecimal`},
		{args: "explain egr_secret", code: exitFailed, error: "^evergrant: this is neither the id of a grant or connection nor a token of this server\ncheck that it is complete"},
		{args: "explain -", code: exitUsage, error: `^evergrant: the token must be one line`},
		{args: "purge", out: `^purged 0 grants, 0 revoked access tokens, 0 events\n$`},
		{args: "purge --json", out: `"grants": 0`},
	})
}

func TestKeyCommands(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	old := s.login()
	s.script(t, []command{
		{args: "key list", out: `^ID +STATE +ACTIVE FROM +CREATED +RS256\n1 +current +\S+ +\S+ +-\n$`},
		{args: "key show 1", out: `^id +1\nstate +current\n`},
		{args: "key show 7", code: exitFailed, error: "^evergrant: there is no key \"7\"\n`evergrant key list` shows"},
		{args: "key rotate", out: `^id +2\nstate +pending\n`},
		{args: "key delete 1", code: exitFailed, error: `^evergrant: .*\n.`},
		{args: "key rotate --now --json", out: `"state": "current"`},
		{args: "key list --json", out: `(?s)"id": 1,\s+"state": "retired".*"id": 3,\s+"state": "current"`},
		{args: "key delete 1", out: `^deleted key 1\n$`},
		{args: "key delete 1", code: exitFailed, error: `^evergrant: there is no key 1 on this server\n`},
		{args: "key delete 99999999999", code: exitUsage, error: `not the number of a key`},
		{args: "key show 3", out: `^id +3\n`},
	})
	if answer := s.refresh(old.Refresh); answer.Error != "invalid_grant" {
		t.Errorf("a token of a deleted key: %+v", answer)
	}
}

func TestEventCommands(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	first := s.login()
	second := s.refresh(first.Refresh)
	s.refresh(second.Refresh)
	s.refresh(first.Refresh) // a thief
	id := s.grants()[0].ID
	s.script(t, []command{
		{args: "event list", out: `^AT +TYPE +CLIENT +SUBJECT +GRANT +CAUSE +ACTOR +ADDRESS +DETAIL\n\S+ +grant.reuse_detected +TestClient +bshaffer +` + id + ` +refresh_token_reused +client:TestClient +127.0.0.1 `},
		{args: "event list --limit 1", out: `^.*\n.*\n$`, error: `--limit 0 shows all`},
		{args: "event list --type grant. --grant " + id + " --client TestClient --subject bshaffer", out: `^AT .*\n.*grant.reuse_detected.*\n.*grant.created.*\n$`},
		{args: "event list --type key.", out: `^$`, error: `^no such events`},
		{args: "event list --json --type grant.created", out: `^\[\n  \{`},
	})
}

// TestEventFollow sees events that are there, and one that comes.
func TestEventFollow(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	for _, format := range []string{"", "--json"} {
		ctx, cancel := context.WithCancel(t.Context())
		out, done := &record{}, make(chan int, 1)
		args := []string{"event", "list", "--follow", "--limit", "1", "--data", s.dir, "--server", s.url}
		if format != "" {
			args = append(args, format)
		}
		var stderr bytes.Buffer
		go func() {
			done <- program{env: environment(), now: time.Now}.Run(ctx, args, strings.NewReader(""), out, &stderr)
		}()
		eventually(t, func() bool { return strings.Count(out.String(), "\n") == 1 })
		s.login()
		eventually(t, func() bool {
			return strings.Contains(out.String(), "grant.created") && strings.Count(out.String(), "\n") == 2
		})
		cancel()
		if code := <-done; code != exitDone || stderr.Len() > 0 {
			t.Errorf("interrupted: status %d, %q", code, stderr.String())
		}
		s.ok("key", "rotate", "--now") // so that the newest event is no grant's
	}
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen in 20 seconds")
		}
	}
}

func TestWrongToken(t *testing.T) {
	s := start(t, t.TempDir(), "")
	r := run(t, environment("EVERGRANT_TOKEN", "egadm_wrong"), "", "client", "list", "--server", s.url)
	if r.code != exitFailed || !strings.Contains(r.stderr, "\ngive the admin token of this server with --token or EVERGRANT_TOKEN") {
		t.Errorf("status %d, %q", r.code, r.stderr)
	}
	token, err := os.ReadFile(filepath.Join(s.dir, adminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	if r := run(t, environment("EVERGRANT_TOKEN", "egadm_wrong"), "", "client", "list", "--server", s.url, "--token", strings.TrimSpace(string(token))); r.code != exitDone {
		t.Errorf("--token does not win: status %d, %q", r.code, r.stderr)
	}
}

// TestNoSecretIsShown plants secrets and looks for them in all that a server
// and its commands print, at the most talkative level.
func TestNoSecretIsShown(t *testing.T) {
	const clientSecret, password, mine = "hush-client-secret", "hush-password", "hush-of-my-own"
	s := start(t, t.TempDir(), "root_key: "+testRoot+"\nissuer:\n  clients:\n    - {id: TestClient, secret: TestSecret, grant_types: [password, refresh_token]}\n"+
		"    - {id: other, secret: "+clientSecret+"}\n  users:\n    - {username: bshaffer, password: brent123}\n    - {username: ann, password: "+password+"}\n", "--log-level", "debug")
	token, err := os.ReadFile(filepath.Join(s.dir, adminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	grant := s.login()
	s.refresh(grant.Refresh)
	s.token("grant_type", "password", "username", "ann", "password", "hush-wrong-password")
	var shown strings.Builder
	for _, args := range []string{"client list", "client list --json", "client show other", "client show other --json", "user list --json", "grant list --json",
		"event list --json --limit 0", "key list --json", "client create mine --secret-stdin", "user create bob --password-stdin", "user passwd bob --password-stdin",
		"client rotate-secret mine --secret-stdin", "explain -", "purge --json", "client create mine --secret-stdin", "user create bob --password-stdin"} {
		stdin := mine
		if args == "explain -" {
			stdin = grant.Refresh
		}
		r := s.run(stdin, strings.Fields(args)...)
		fmt.Fprintln(&shown, args, r.out, r.stderr)
	}
	s.stop()
	shown.WriteString(s.stdout.String() + s.stderr.String())
	for name, secret := range map[string]string{"root key": testRoot, "admin token": strings.TrimSpace(string(token)), "client secret": clientSecret,
		"password": password, "secret from stdin": mine, "wrong password": "hush-wrong-password", "refresh token": grant.Refresh, "access token": grant.Access,
		"seed": "TestSecret", "seed password": "brent123", "verifier": "argon2id$", "verifier salt": "hmac-sha256$"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the %s is shown", name)
		}
	}
}

// TestTables looks at the form of times and of what is not printable.
func TestTables(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := table(&out, []string{"A", "B"}, [][]string{{"x\ty\n\x1b[2J", ""}, {"é", localTime(at)}}); err != nil {
		t.Fatal(err)
	}
	want := "A         B\nx\ufffdy\ufffd\ufffd[2J  -\né         " + at.Local().Format(time.RFC3339) + "\n"
	if out.String() != want {
		t.Errorf("table is\n%s\nwant\n%s", out.String(), want)
	}
	if localTime(time.Time{}) != "" {
		t.Error("the zero time is shown")
	}
	if lines := counted(12, func(i int) string { return fmt.Sprint(i) }); lines != "12 (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)" {
		t.Errorf("counted: %s", lines)
	}
	dead := evergrant.Grant{ExpiresAt: at}
	if state := grantState(dead); state != "expired" {
		t.Errorf("state %q", state)
	}
	if state := grantState(evergrant.Grant{RevokedAt: at, RevokedCause: string(issuer.CauseRefreshTokenReused)}); state != "revoked: refresh_token_reused" {
		t.Errorf("state %q", state)
	}
}
