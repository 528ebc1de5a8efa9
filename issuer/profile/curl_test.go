package profile_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/issuer/profile"
	"github.com/evergrant/evergrant/oauth"
)

// curl runs a command line as somebody has it in a shell, and returns what it
// prints.
func (s *site) curl(line string) reply {
	s.t.Helper()
	var problems strings.Builder
	command := exec.CommandContext(s.t.Context(), "sh", "-c", strings.ReplaceAll(line, "URL", s.url))
	command.Stderr = &problems
	printed, err := command.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, problems.String())
	}
	return reply{s.t, 0, nil, string(printed)}
}

// answer checks the members of an answer, in their order, and returns it.
func (r reply) answer(members ...string) reply {
	r.t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	var names []string
	if _, err := d.Token(); err != nil {
		r.t.Fatalf("%v in %s", err, r.body)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			r.t.Fatalf("%v in %s", err, r.body)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			r.t.Fatalf("%v in %s", err, r.body)
		}
	}
	if strings.Join(names, " ") != strings.Join(members, " ") {
		r.t.Fatalf("members %v, want %v: %s", names, members, r.body)
	}
	return r
}

// TestCommandLines runs the lines that those servers' users have.
func TestCommandLines(t *testing.T) {
	t.Parallel()
	t.Run("bshaffer", func(t *testing.T) {
		t.Parallel()
		s := bshafferSite(t, profile.BshafferOptions{})
		s.curl(`curl -u TestClient:TestSecret URL/token -d 'grant_type=client_credentials'`).
			answer("access_token", "expires_in", "token_type", "scope")
		first := s.curl(`curl -u TestClient:TestSecret URL/token -d 'grant_type=password&username=bshaffer&password=brent123'`).
			answer("access_token", "expires_in", "token_type", "scope", "refresh_token")
		s.curl(`curl -u TestClient:TestSecret URL/token -d 'grant_type=refresh_token&refresh_token=`+first.get("refresh_token")+`'`).
			answer("access_token", "expires_in", "token_type", "scope")
		s.curl(`curl -u TestClient:TestSecret URL/token -F grant_type=client_credentials`).
			answer("access_token", "expires_in", "token_type", "scope")
	})
	t.Run("fos", func(t *testing.T) {
		t.Parallel()
		s := fosSite(t, profile.FOSOptions{})
		members := []string{"access_token", "expires_in", "token_type", "scope", "refresh_token"}
		first := s.curl(`curl 'URL/oauth/v2/token?client_id=1_web&client_secret=TestSecret&grant_type=password&username=bshaffer&password=brent123'`).answer(members...)
		second := s.curl(`curl URL/oauth/v2/token -d client_id=1_web -d client_secret=TestSecret -d grant_type=refresh_token -d refresh_token=` + first.get("refresh_token")).answer(members...)
		s.curl(`curl -G URL/oauth/v2/token -u 1_web:TestSecret -d grant_type=refresh_token -d refresh_token=` + second.get("refresh_token")).answer(members...)
	})
	t.Run("eventix", func(t *testing.T) {
		t.Parallel()
		s := eventixSite(t)
		first := s.login(shop)
		s.curl(`curl -X POST URL/tokens -H 'Content-Type: application/json' -d '{"grant_type": "refresh_token", "refresh_token": "`+first.get("refresh_token")+
			`", "client_id": "shop-identifier", "client_secret": "shop-secret"}'`).
			answer("token_type", "expires_in", "access_token", "refresh_token", "refresh_token_expires_in", "info")
		r := s.curl(`curl -X POST URL/tokens -F grant_type=refresh_token -F refresh_token=x -F client_id=shop-identifier -F client_secret=shop-secret`).
			answer("error", "error_description")
		if r.get("error") != oauth.InvalidRequest || !strings.Contains(r.get("error_description"), "application/json") {
			t.Errorf("answer %s", r.body)
		}
	})
}

// TestOwnTokenPaths: a profile's own paths are those of its server and of its clients,
// and the standard's are everybody's.
func TestOwnTokenPaths(t *testing.T) {
	t.Parallel()
	paths := map[string]string{profile.NameFOS: "/oauth/v2/token", profile.NameBshaffer: "/token", profile.NameEventix: "/tokens"}
	types := map[string]string{"": "Bearer", profile.NameFOS: "bearer", profile.NameBshaffer: "Bearer", profile.NameEventix: "Bearer"}
	for _, server := range append(profile.Names(), "") {
		t.Run("server "+server, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, server, profile.Options{})
			for _, own := range append(profile.Names(), "") {
				s.client("client"+own+":TestSecret", issuer.Client{GrantTypes: all, Profile: own})
			}
			for _, own := range append(profile.Names(), "") {
				speaks := own
				if own == "" {
					speaks = server
				}
				as := "client" + own + ":TestSecret"
				for name, path := range paths {
					want := 404
					if name == speaks || name == server {
						want = 200
					}
					if r := s.send("POST", path, "grant_type=client_credentials", basic(as), formHeader); r.status != want || want == 200 && r.get("token_type") != types[speaks] {
						t.Errorf("server %q, client %q at the path of %q: %d %s, want %d", server, own, name, r.status, r.body, want)
					}
				}
				r := s.send("POST", issuer.TokenPath, "grant_type=client_credentials", basic(as), formHeader).want(200)
				if r.get("token_type") != types[speaks] || (r.header.Get("Cache-Control") == "no-store, private") != (speaks == profile.NameFOS) {
					t.Errorf("server %q, client %q at the standard's path: %v %s", server, own, r.header, r.body)
				}
			}
			for name, path := range paths { // of nobody, and of a client that is not known
				want := 404
				if name == server {
					want = 400
				}
				for _, as := range []string{"", "nobody:x"} {
					if r := s.send("POST", path, "grant_type=nonsense", basic(as), formHeader); r.status != want && !(want == 400 && r.status == 401) {
						t.Errorf("server %q, %q at the path of %q: %d, want %d", server, as, name, r.status, want)
					}
				}
				// A browser that asks first names no client.
				if r := s.send("OPTIONS", path, ""); (r.status == 200) != (name == profile.NameBshaffer) || r.status > 204 {
					t.Errorf("OPTIONS of %q: %d", name, r.status)
				}
			}
			if r := s.send("POST", "/revoke", "token=x", basic("clientbshaffer:TestSecret"), formHeader).want(200); r.body != `{"revoked":true}` {
				t.Errorf("revocation by a client of bshaffer: %s", r.body)
			}
			want := 404
			if server == profile.NameBshaffer {
				want = 200
			}
			s.send("POST", "/revoke", "token=x", basic("clientfos:TestSecret"), formHeader).want(want)
		})
	}
}
