package evergrant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Client uses and administers a running server through its HTTP API. Its methods are
// safe for concurrent use. They return a *[Problem] where the server refused,
// an error that wraps [ErrUnreachable] where no answer came, and the context's
// error where the context ended.
type Client struct {
	Server string // URL of the server, such as http://127.0.0.1:8080
	// Token is the admin token, which the server left in its data directory as
	// admin.token; or, for connections, a token of its issuer with a scope
	// keeper:read, keeper:token or keeper:write.
	Token secret.Text
	HTTP  *http.Client // http.DefaultClient where nil; redirects are not followed
	// Now is the clock by which tokens of connections are kept; time.Now where nil.
	Now func() time.Time
}

func (c *Client) clock() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// ErrUnreachable says that the server gave no answer, or broke off in the
// middle of one. A call that changes something may have done so.
var ErrUnreachable = errors.New("the server cannot be reached")

// Problem is a refusal of the server (RFC 9457).
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"` // HTTP status
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next,omitempty"` // what to do next
	Code   string `json:"code,omitempty"` // of a connection that gives no token, see the Code constants
	// RetryAfter is how long to wait before trying again; 0 where that does not
	// help or is not told.
	RetryAfter time.Duration `json:"-"`
}

// The codes of problems of a connection.
const (
	CodeReauthorize = "reauthorization_required" // see ReauthorizationError
	CodePaused      = "connection_paused"
	CodeUnavailable = "provider_unavailable" // now; the token may come later
)

// Error is the detail, or the title where there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// maxAnswer bounds an answer in JSON in bytes: a page of 500 clients with long
// lists of redirect URIs fits.
const maxAnswer = 64 << 20

// call sends in as JSON unless it is nil, and reads the answer into out unless
// that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return c.foreign(resp.StatusCode)
	}
	return nil
}

// send does a request with further header fields and returns an answer of
// success, whose body the caller closes.
func (c *Client) send(ctx context.Context, method, path string, in any, header http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.Server, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("server URL %q: %w", c.Server, err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http().Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, c.problem(resp)
	}
	return resp, nil
}

// http is the HTTP client without redirects: the API has none, and following
// one turns a POST into a GET.
func (c *Client) http() *http.Client {
	given := c.HTTP
	if given == nil {
		given = http.DefaultClient
	}
	direct := *given
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &direct
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Server, err)
}

// problem reads a refusal.
func (c *Client) problem(resp *http.Response) error {
	problem := &Problem{}
	told := struct {
		*Problem
		Cause      string    `json:"cause"`
		Since      time.Time `json:"since"`
		ConnectURL string    `json:"connect_url"`
	}{Problem: problem}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &told) != nil || problem.Title == "" {
		return c.foreign(resp.StatusCode)
	}
	problem.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		problem.RetryAfter = time.Duration(seconds) * time.Second
	}
	if problem.Code == CodeReauthorize {
		return &ReauthorizationError{told.Cause, told.Since, told.ConnectURL, problem}
	}
	return problem
}

// foreign is the refusal for an answer that no Evergrant server gives.
func (c *Client) foreign(status int) error {
	return &Problem{
		Title:  http.StatusText(status),
		Status: status,
		Detail: fmt.Sprintf("%s answered with status %d, and not as an Evergrant server does", c.Server, status),
		Next:   "check the URL of the server, and what stands between it and you",
	}
}
