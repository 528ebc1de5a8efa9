package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
)

// tokenFlags are where the tokens of a new connection come from. None of them
// is a token: what stands in the list of processes is no secret.
type tokenFlags struct {
	accessFile, refreshFile string
	scopes                  []string
	tokenType               string
	expiresIn, expiresAt    string
	refreshExpiresAt        string
	none                    bool
}

func (in *invocation) connectionCreate() *cobra.Command {
	var made evergrant.NewConnection
	var tokens tokenFlags
	var params []string
	cmd := &cobra.Command{
		Use: "create PROVIDER", Aliases: []string{"import"}, Args: exactly(1),
		Short: "Takes over tokens that you have, from files or as a token answer in JSON on stdin",
		Long: "Makes a connection of tokens that you have. They are read from files, or from stdin as the JSON that the provider's\n" +
			"token endpoint answered: {\"access_token\": ..., \"refresh_token\": ..., \"expires_in\": 3600}. Where nobody knows when the\n" +
			"access token expires, it is refreshed at once. From then on the keeper must be the only one who uses the refresh token.",
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) (err error) {
			if made.Params, err = readParams(cmd, params); err != nil {
				return err
			}
			if made.Tokens, err = in.readTokens(cmd, tokens); err != nil {
				return err
			}
			made.Provider = args[0]
			in.progress("importing ...")
			connection, err := admin.CreateConnection(cmd.Context(), made)
			in.progress("")
			if err != nil {
				return found(err, "provider", args[0])
			}
			return in.showConnection(connection)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&made.ID, "id", "", "`id` of the connection (default a random one)")
	flags.StringVar(&made.Owner, "owner", "", "`who` granted it, as your application names its users")
	flags.StringVar(&made.Tenant, "tenant", "", "`tenant` of the connection")
	flags.StringVar(&made.Background, "background", "", "always or on_demand: whether it is refreshed although nobody reads it (default always)")
	flags.StringVar(&tokens.accessFile, "access-token-file", "", "`FILE` with the access token; - is stdin")
	flags.StringVar(&tokens.refreshFile, "refresh-token-file", "", "`FILE` with the refresh token; - is stdin")
	flags.StringSliceVar(&tokens.scopes, "scope", nil, "`scope` that was granted; repeat for several")
	flags.StringVar(&tokens.tokenType, "token-type", "", "`type` of the access token (default Bearer)")
	flags.StringVar(&tokens.expiresIn, "expires-in", "", "`duration` for which the access token lives yet, such as 1h")
	flags.StringVar(&tokens.expiresAt, "expires-at", "", "`time` at which the access token expires, such as 2031-05-17T09:30:00Z")
	flags.StringVar(&tokens.refreshExpiresAt, "refresh-token-expires-at", "", "`time` at which the refresh token expires")
	flags.BoolVar(&tokens.none, "without-tokens", false, "for a provider that gives tokens without an owner: it is asked for the first ones")
	paramFlag(cmd, &params)
	return cmd
}

// readTokens reads tokens from files or stdin.
func (in *invocation) readTokens(cmd *cobra.Command, f tokenFlags) (tokens evergrant.Tokens, err error) {
	files := f.accessFile != "" || f.refreshFile != ""
	switch {
	case f.none && files:
		return tokens, usage(cmd, "--without-tokens and a file with a token contradict each other")
	case f.accessFile == "-" && f.refreshFile == "-":
		return tokens, usage(cmd, "stdin has one token: give one of them in a file, or both as JSON on stdin")
	case f.expiresIn != "" && f.expiresAt != "":
		return tokens, usage(cmd, "give --expires-in or --expires-at, not both")
	case !files && !f.none:
		if tokens, err = in.pipedTokens(cmd); err != nil {
			return tokens, err
		}
	}
	if f.accessFile != "" {
		if tokens.AccessToken, err = in.tokenFile(cmd, f.accessFile, "access token"); err != nil {
			return tokens, err
		}
	}
	if f.refreshFile != "" {
		if tokens.RefreshToken, err = in.tokenFile(cmd, f.refreshFile, "refresh token"); err != nil {
			return tokens, err
		}
	}
	return tokens, f.describe(cmd, &tokens, in.now())
}

// describe puts what flags say over what the tokens came with.
func (f tokenFlags) describe(cmd *cobra.Command, tokens *evergrant.Tokens, now time.Time) (err error) {
	tokens.TokenType = orText(f.tokenType, tokens.TokenType)
	if len(f.scopes) > 0 {
		tokens.Scope = f.scopes
	}
	if f.expiresIn != "" {
		lifetime, err := oauth.ParseLifetime(f.expiresIn)
		if err != nil || lifetime < 0 {
			return usage(cmd, fmt.Sprintf("--expires-in %q is not a duration such as 1h or 20m", f.expiresIn))
		}
		tokens.ExpiresAt = lifetime.After(now)
	}
	for flag, at := range map[string]struct {
		text string
		dst  *time.Time
	}{"expires-at": {f.expiresAt, &tokens.ExpiresAt}, "refresh-token-expires-at": {f.refreshExpiresAt, &tokens.RefreshExpiresAt}} {
		if at.text == "" {
			continue
		}
		if *at.dst, err = time.Parse(time.RFC3339, at.text); err != nil {
			return usage(cmd, fmt.Sprintf("--%s %q is not a time such as 2031-05-17T09:30:00Z", flag, at.text))
		}
	}
	return nil
}

func (in *invocation) tokenFile(cmd *cobra.Command, path, name string) (secret.Text, error) {
	if path == "-" {
		return in.pipedSecret(cmd, name)
	}
	file, err := os.Open(path)
	if err != nil {
		return secret.Text{}, &failure{what: err.Error(), next: "name a file that has the " + name + " and nothing else"}
	}
	defer file.Close()
	text, err := readAtMost(file, cmd, name)
	if err != nil {
		return secret.Text{}, err
	}
	return oneLine(cmd, name, string(text))
}

// maxPiped bounds what is read from stdin or a file, in bytes: access tokens
// have been seen with 16 KB.
const maxPiped = 256 << 10

func readAtMost(r io.Reader, cmd *cobra.Command, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPiped+1))
	if err == nil && len(text) > maxPiped {
		err = usage(cmd, fmt.Sprintf("the %s is longer than %d KiB", name, maxPiped>>10))
	}
	return text, err
}

// pipedTokens reads a token answer from stdin. What it says beside tokens and
// lifetimes is left out.
func (in *invocation) pipedTokens(cmd *cobra.Command) (tokens evergrant.Tokens, err error) {
	if _, ok := terminal(in.stdin); ok {
		return tokens, &failure{exitUsage, "there are no tokens", "send them as JSON on stdin, such as `... < answer.json`, or name files with --refresh-token-file and --access-token-file"}
	}
	text, err := readAtMost(in.stdin, cmd, "token answer")
	if err != nil {
		return tokens, err
	}
	var answer struct {
		Access       *string  `json:"access_token"`
		Refresh      *string  `json:"refresh_token"`
		Type         string   `json:"token_type"`
		Scope        anyScope `json:"scope"`
		In           seconds  `json:"expires_in"`
		At           instant  `json:"expires_at"`
		RefreshIn    seconds  `json:"refresh_token_expires_in"`
		RefreshAt    instant  `json:"refresh_token_expires_at"`
		RefreshEndIn seconds  `json:"refresh_expires_in"`
	}
	err = json.Unmarshal(text, &answer)
	if err != nil || answer.Access == nil && answer.Refresh == nil {
		// What does not parse may be a token, and is not shown.
		return tokens, &failure{exitUsage, "stdin has no token answer: JSON with access_token or refresh_token is expected",
			`send for example {"access_token": "...", "refresh_token": "...", "expires_in": 3600}, or name files with --refresh-token-file and --access-token-file`}
	}
	for text, dst := range map[*string]*secret.Text{answer.Access: &tokens.AccessToken, answer.Refresh: &tokens.RefreshToken} {
		if text != nil {
			*dst = secret.NewText(*text)
		}
	}
	now := in.now()
	tokens.TokenType, tokens.Scope = answer.Type, oauth.Scope(answer.Scope)
	tokens.ExpiresAt = answer.At.or(answer.In, now)
	tokens.RefreshExpiresAt = answer.RefreshAt.or(max(answer.RefreshIn, answer.RefreshEndIn), now)
	return tokens, nil
}

// seconds is a number of seconds, or a text of one; 0 where it is not told.
type seconds float64

// UnmarshalJSON reads a number or a text of one.
func (s *seconds) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "" || text == "null" {
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n < 1<<32) {
		return errors.New("not a number of seconds")
	}
	*s = seconds(n)
	return nil
}

// instant is a time as RFC 3339 writes it, or in seconds or milliseconds since
// the epoch; zero where it is not told.
type instant struct{ time.Time }

// UnmarshalJSON reads a text or a number.
func (i *instant) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "" || text == "null" || text == "0" {
		return nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 && n < 1<<52 {
		const year5138 = 1e11 // in seconds; in milliseconds it is 1973
		if n < year5138 {
			n *= 1000
		}
		i.Time = time.UnixMilli(int64(n)).UTC()
		return nil
	}
	var err error
	i.Time, err = time.Parse(time.RFC3339, text)
	return err
}

// or is the time, or where it is not told the end of a lifetime.
func (i instant) or(in seconds, now time.Time) time.Time {
	if i.IsZero() && in > 0 {
		return now.Add(time.Duration(float64(in) * float64(time.Second)))
	}
	return i.Time
}

// anyScope is a scope as a text with spaces or commas, or as a list.
type anyScope oauth.Scope

// UnmarshalJSON reads a text, a list of texts or null.
func (s *anyScope) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("[")) {
		return json.Unmarshal(b, (*[]string)(s))
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*s = strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	return nil
}
