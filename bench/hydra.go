package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/evergrant/evergrant/internal/bench"
)

// hydra is the name of Ory Hydra among the targets.
const (
	hydra        = "hydra"
	hydraModule  = "github.com/ory/hydra/v2"
	hydraVersion = "v2.3.0"
	// hydraClient is a module that Hydra's own has beside itself and replaces by
	// it. The module proxy gives only what is not a module of its own, so the
	// released one is taken; only Hydra's commands use it, and none of them here.
	hydraClient = "github.com/ory/hydra-client-go/v2"
	// hydraScope is without openid, so that no ID token is signed.
	hydraScope = "offline read"
	// hydraCallback is where codes are sent; nobody follows.
	hydraCallback = "http://127.0.0.1/callback"
)

// buildHydra builds Hydra with its own go.mod, out of a copy of its module.
func (f *field) buildHydra(ctx context.Context, to string) error {
	fmt.Fprintf(f.progress, "building hydra %s\n", hydraVersion)
	answer, err := f.output(ctx, f.dir, "go", "mod", "download", "-json", hydraModule+"@"+hydraVersion)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(answer), &module); err != nil {
		return err
	}
	source := filepath.Join(f.dir, "hydra-source")
	defer os.RemoveAll(source)
	if err := os.CopyFS(source, os.DirFS(module.Dir)); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"go", "mod", "edit", "-dropreplace", hydraClient},
		{"go", "build", "-mod=mod", "-o", to, "."},
	} {
		if _, err := f.output(ctx, source, argv...); err != nil {
			return err
		}
	}
	return nil
}

// startHydra migrates the database and starts Hydra: no telemetry, no log of
// requests, all lifetimes as they are by default, opaque access tokens, and 20
// connections that stay open, without which it opens and closes them all the
// time.
func (f *field) startHydra(ctx context.Context, r *running, dir string) error {
	public, err := bench.FreeAddress()
	if err != nil {
		return err
	}
	if r.admin, err = bench.FreeAddress(); err != nil {
		return err
	}
	config := filepath.Join(dir, "hydra.yaml")
	if err := os.WriteFile(config, []byte(f.credentials.hydra(r.postgres.URL(databaseName), public, r.admin)), 0o600); err != nil {
		return err
	}
	if _, err := f.output(ctx, dir, f.hydra, "migrate", "sql", "up", "--read-from-env", "--yes", "--config", config); err != nil {
		return err
	}
	server, err := bench.Start(ctx, bench.Command{
		Argv:    f.cores.OnServerCore(f.hydra, "serve", "all", "--dev", "--sqa-opt-out", "--config", config),
		Env:     []string{f.cores.ServerEnv()},
		Address: public,
		Log:     filepath.Join(dir, "log"),
		Ready: func(ctx context.Context) error {
			return errors.Join(bench.Ask(ctx, "http://"+public+"/health/ready"), bench.Ask(ctx, "http://"+r.admin+"/health/ready"))
		},
	})
	if err != nil {
		return err
	}
	r.servers = append(r.servers, server)
	return nil
}

// hydra is its configuration.
func (c credentials) hydra(database, public, admin string) string {
	_, publicPort, _ := strings.Cut(public, ":")
	_, adminPort, _ := strings.Cut(admin, ":")
	return fmt.Sprintf(`dsn: %s&max_conns=20&max_idle_conns=20
log: {level: error}
serve:
  public: {host: 127.0.0.1, port: %s}
  admin: {host: 127.0.0.1, port: %s}
urls:
  self: {issuer: "http://%s", public: "http://%s"}
  login: http://127.0.0.1/login
  consent: http://127.0.0.1/consent
secrets: {system: ["%s"]}
strategies: {access_token: opaque}
`, database, publicPort, adminPort, public, public, c.clientSecret)
}

// seedHydra makes a public client, and grants with the authorization code flow
// and PKCE, in which the administration accepts each login and consent.
func (f *field) seedHydra(ctx context.Context, r *running, clientID string, n int) ([]bench.Tokens, error) {
	flow := hydraFlow{public: "http://" + r.servers[0].Address, admin: "http://" + r.admin + "/admin", clientID: clientID}
	_, err := flow.send(ctx, http.DefaultClient, http.MethodPost, flow.admin+"/clients", map[string]any{
		"client_id": clientID, "token_endpoint_auth_method": "none", "scope": hydraScope,
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"redirect_uris": []string{hydraCallback},
	})
	if err != nil {
		return nil, fmt.Errorf("seeding hydra: %w", err)
	}
	all := make([]bench.Tokens, n)
	for i := range all {
		if all[i], err = flow.grant(ctx); err != nil {
			return nil, fmt.Errorf("seeding hydra: %w", err)
		}
	}
	return all, nil
}

// hydraFlow makes grants.
type hydraFlow struct{ public, admin, clientID string }

// grant is one authorization by one owner.
func (h hydraFlow) grant(ctx context.Context) (bench.Tokens, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return bench.Tokens{}, err
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	verifier := randomText()
	challenge := sha256.Sum256([]byte(verifier))
	next := h.public + "/oauth2/auth?" + url.Values{
		"client_id": {h.clientID}, "response_type": {"code"}, "scope": {hydraScope}, "redirect_uri": {hydraCallback},
		"state": {randomText()}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode()
	for _, step := range []struct {
		name   string
		accept map[string]any
	}{
		{"login", map[string]any{"subject": username}},
		{"consent", map[string]any{"grant_scope": strings.Fields(hydraScope)}},
	} {
		asked, err := h.follow(ctx, browser, next, step.name+"_challenge")
		if err != nil {
			return bench.Tokens{}, err
		}
		answer, err := h.send(ctx, browser, http.MethodPut, h.admin+"/oauth2/auth/requests/"+step.name+"/accept?"+step.name+"_challenge="+url.QueryEscape(asked), step.accept)
		if err != nil {
			return bench.Tokens{}, err
		}
		next = answer.RedirectTo
	}
	code, err := h.follow(ctx, browser, next, "code")
	if err != nil {
		return bench.Tokens{}, err
	}
	return bench.RequestToken(ctx, h.public+"/oauth2/token", "", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {h.clientID}, "redirect_uri": {hydraCallback},
		"code": {code}, "code_verifier": {verifier},
	})
}

// follow answers what the place that a page leads to has under a name in its
// query.
func (h hydraFlow) follow(ctx context.Context, browser *http.Client, page, name string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	response, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	response.Body.Close()
	to, err := response.Location()
	if err != nil || to.Query().Get(name) == "" {
		return "", fmt.Errorf("%s answered %d and led to no %s", request.URL.Path, response.StatusCode, name)
	}
	return to.Query().Get(name), nil
}

// answer is what the administration says.
type hydraAnswer struct {
	RedirectTo string `json:"redirect_to"`
}

func (h hydraFlow) send(ctx context.Context, client *http.Client, method, to string, body any) (hydraAnswer, error) {
	var answer hydraAnswer
	text, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	request, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(text))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return answer, fmt.Errorf("%s answered %d", request.URL.Path, response.StatusCode)
	}
	return answer, json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer)
}
