package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Tokens is what a token endpoint answers, as far as a load needs it.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// Seed gets tokens for n grants with the resource owner's password (RFC 6749,
// section 4.3), for a public client.
func Seed(ctx context.Context, address, clientID, username, password string, n int) ([]Tokens, error) {
	all := make([]Tokens, 0, n)
	for range n {
		tokens, err := RequestToken(ctx, "http://"+address+"/oauth/token", "", url.Values{
			"grant_type": {"password"}, "client_id": {clientID}, "scope": {"read"},
			"username": {username}, "password": {password},
		})
		if err != nil {
			return nil, fmt.Errorf("seeding: %w", err)
		}
		if tokens.Refresh == "" {
			return nil, fmt.Errorf("seeding: %w", errNoRefresh)
		}
		all = append(all, tokens)
	}
	return all, nil
}

// RequestToken sends one request to a token endpoint, with the Authorization
// header where it is not "".
func RequestToken(ctx context.Context, endpoint, authorization string, form url.Values) (Tokens, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return Tokens{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var tokens Tokens
	if err := getJSON(request, authorization, &tokens); err != nil {
		return Tokens{}, err
	}
	if tokens.Access == "" {
		return Tokens{}, errNoAccess
	}
	return tokens, nil
}

// Stats is what a server says of its stored data.
type Stats struct {
	// Rows counts the rows of each table.
	Rows map[string]int64 `json:"rows"`
	// Bytes is the size of the live data, without free pages and without the
	// write-ahead log.
	Bytes int64 `json:"database_bytes"`
}

// TotalRows is the number of rows in all tables.
func (s Stats) TotalRows() int64 {
	total := int64(0)
	for _, n := range s.Rows {
		total += n
	}
	return total
}

// ReadStats asks a server for GET /v1/stats with its admin token.
func ReadStats(ctx context.Context, address, adminToken string) (Stats, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/stats", nil)
	if err != nil {
		return Stats{}, err
	}
	var stats Stats
	err = getJSON(request, "Bearer "+adminToken, &stats)
	return stats, err
}

// getJSON sends the request and decodes the answer. Its errors name the status
// and the OAuth error code, never the body, which may hold tokens.
func getJSON(request *http.Request, authorization string, into any) error {
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d %s", request.URL.Path, response.StatusCode, stringField(body, `"error"`))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", request.URL.Path, err)
	}
	return nil
}
