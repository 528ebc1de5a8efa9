package evergrant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/testdb"
	"github.com/evergrant/evergrant/secret"
)

func TestProblem(t *testing.T) {
	_, client := start(t)
	ctx := t.Context()
	wrong := *client
	wrong.Token = secret.NewText("wrong")
	tests := []struct {
		name   string
		do     func() error
		status int
		detail string
		next   string
	}{
		{"wrong token", func() error { _, err := wrong.Stats(ctx); return err }, 401, "needs the admin token", "admin.token"},
		{"no such client", func() error { _, err := client.Client(ctx, "nobody"); return err }, 404, "no such thing", ""},
		{"no such user", func() error { return client.DeleteUser(ctx, "nobody") }, 404, "no such thing", ""},
		{"bad grant id", func() error { return client.RevokeGrant(ctx, "../clients/photos") }, 400, "32 hexadecimal", ""},
		{"taken id", func() error {
			_, _, err := client.CreateClient(ctx, evergrant.Registration{ID: "photos"}, evergrant.SecretChange{})
			return err
		}, 409, "exists already", "PATCH"},
		{"bad lifetime", func() error {
			_, _, err := client.CreateClient(ctx, evergrant.Registration{ID: "a", GrantLifetime: "long"}, evergrant.SecretChange{})
			return err
		}, 400, `"long" is not a duration`, ""},
		{"unknown field", func() error {
			_, _, err := client.UpdateClient(ctx, "photos", map[string]any{"colour": "red"}, evergrant.SecretChange{})
			return err
		}, 400, `no field "colour"`, "correct its name"},
		{"list", func() error {
			for _, err := range client.Events(ctx, evergrant.EventFilter{Grant: "x"}) {
				return err
			}
			return nil
		}, 400, "32 hexadecimal", ""},
		{"current key", func() error { return client.DeleteKey(ctx, 1) }, 409, "only a retired key can be deleted", "rotate"},
		{"backup", func() error { _, err := wrong.Backup(ctx, io.Discard); return err }, 401, "needs the admin token", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do()
			problem, ok := errors.AsType[*evergrant.Problem](err)
			if !ok {
				t.Fatalf("error %v is no problem", err)
			}
			if problem.Status != tt.status || !strings.Contains(err.Error(), tt.detail) || !strings.Contains(problem.Next, tt.next) {
				t.Errorf("problem %+v", *problem)
			}
			if problem.Title != http.StatusText(tt.status) {
				t.Errorf("title %q", problem.Title)
			}
		})
	}
}

// calls are one call of each kind.
func calls(ctx context.Context, client *evergrant.Client) map[string]error {
	errs := map[string]error{}
	_, errs["get"] = client.Stats(ctx)
	_, _, errs["post"] = client.CreateClient(ctx, evergrant.Registration{ID: "a"}, evergrant.SecretChange{})
	errs["delete"] = client.DeleteClient(ctx, "a")
	_, errs["stream"] = client.Backup(ctx, io.Discard)
	for _, err := range client.Users(ctx) {
		errs["list"] = err
	}
	return errs
}

func TestUnreachable(t *testing.T) {
	s, client := start(t)
	s.Close()
	for name, err := range calls(t.Context(), client) {
		if !errors.Is(err, evergrant.ErrUnreachable) || !strings.Contains(err.Error(), s.URL) || strings.Contains(err.Error(), adminToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrokenOff(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"rows":`)
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for name, err := range calls(t.Context(), client) {
		if !errors.Is(err, evergrant.ErrUnreachable) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	for name, err := range calls(ctx, client) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, evergrant.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Something that is no Evergrant server is said to be none.
func TestForeignServer(t *testing.T) {
	tests := map[string]http.HandlerFunc{
		"web page": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>welcome</html>") },
		"failing proxy": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>bad gateway</html>")
		},
		"other API": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"error":"no"}`, http.StatusForbidden) },
		"redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"redirect to TLS": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusMovedPermanently)
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			client := serve(t, answer)
			_, err := client.Stats(t.Context())
			problem, ok := errors.AsType[*evergrant.Problem](err)
			if !ok || !strings.Contains(problem.Detail, "not as an Evergrant server does") || !strings.Contains(problem.Next, "check the URL") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestBadServerURL(t *testing.T) {
	for _, server := range []string{"://", "127.0.0.1:8080", "", "ftp://127.0.0.1"} {
		client := &evergrant.Client{Server: server}
		if _, err := client.Stats(t.Context()); err == nil || !strings.Contains(err.Error(), server) {
			t.Errorf("%q: error %v", server, err)
		}
	}
}

// A trailing slash is no other server, and a prefix stays.
func TestServerURL(t *testing.T) {
	paths := make(chan string, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths <- r.URL.EscapedPath()
		io.WriteString(w, "{}")
	})
	base := client.Server
	for suffix, want := range map[string]string{"": "/v1/clients/a%2Fb", "/": "/v1/clients/a%2Fb", "/auth": "/auth/v1/clients/a%2Fb"} {
		client.Server = base + suffix
		if _, err := client.Client(t.Context(), "a/b"); err != nil {
			t.Error(err)
		}
		if got := <-paths; got != want {
			t.Errorf("%q asks for %q, want %q", suffix, got, want)
		}
	}
}

func TestGivenHTTPClient(t *testing.T) {
	_, client := start(t)
	used := false
	client.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		used = true
		return http.DefaultTransport.RoundTrip(r)
	})}
	if _, err := client.Stats(t.Context()); err != nil || !used || client.HTTP.CheckRedirect != nil {
		t.Errorf("error %v, used %v", err, used)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNothingPrintsTheToken(t *testing.T) {
	client := &evergrant.Client{Server: "http://127.0.0.1:1", Token: secret.NewText(adminToken)}
	_, err := client.Stats(t.Context())
	change := evergrant.SecretChange{Set: secret.NewText(adminToken)}
	for _, printed := range []string{fmt.Sprintf("%+v", *client), fmt.Sprintf("%#v", client), fmt.Sprint(err), fmt.Sprintf("%+v", change)} {
		if strings.Contains(printed, adminToken) {
			t.Errorf("printed %s", printed)
		}
	}
}

func TestBackup(t *testing.T) {
	_, client := start(t)
	var file bytes.Buffer
	n, err := client.Backup(t.Context(), &file)
	if err != nil || n != int64(file.Len()) {
		t.Errorf("%d bytes of %d, error %v", n, file.Len(), err)
	}
	restored, err := testdb.Restore(t, file.Bytes()).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if _, err := restored.User(t.Context(), "alice"); err != nil {
		t.Errorf("the user is not in the copy: %v", err)
	}
	full := errors.New("the disk is full")
	_, err = client.Backup(t.Context(), writer(func([]byte) (int, error) { return 0, full }))
	if !errors.Is(err, full) || errors.Is(err, evergrant.ErrUnreachable) {
		t.Errorf("error %v, want that of the writer", err)
	}
}

type writer func([]byte) (int, error)

func (f writer) Write(b []byte) (int, error) { return f(b) }
