package web

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Database is what the API reads beside [issuer.Lists]: single rows, with
// issuer.ErrNotFound where there is none, and the copy of everything.
type Database interface {
	Client(ctx context.Context, id string) (issuer.Client, error)
	User(ctx context.Context, username string) (issuer.User, error)
	Grant(ctx context.Context, id issuer.GrantID) (issuer.Grant, error)
	// Backup writes a copy of the database as it was at one moment.
	Backup(ctx context.Context, w io.Writer) error
}

// APIConfig is what the API of administration is made of. Token, Admin and
// Database are required.
type APIConfig struct {
	Token    secret.Text // the admin token; no request is served while it is empty
	Admin    *issuer.Admin
	Database Database

	// Address tells the network address of whoever sent a request, as
	// issuer.Config.Address does; the connection's where nil.
	Address func(*http.Request) string
	Log     *slog.Logger     // slog.Default() where nil
	Now     func() time.Time // time.Now where nil
}

// api serves /v1/.
type api struct {
	APIConfig
	// registry is held while a client or user is read, changed and written
	// back, so that of two requests at once neither undoes the other.
	registry sync.Mutex
}

// NewAPI serves the API of administration under /v1/. Answers are JSON, errors
// are problem documents (RFC 9457).
func NewAPI(config APIConfig) http.Handler {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Address == nil {
		config.Address = connectionAddress
	}
	a := &api{APIConfig: config}
	mux := http.NewServeMux()
	for path, methods := range a.resources() {
		mux.Handle(path, a.serve(methods))
	}
	mux.Handle("/", a.serve(nil))
	return a.authorized(mux)
}

// endpoint does one thing. It has written nothing when it returns an error.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// resources are the API: what each method does at each path.
func (a *api) resources() map[string]map[string]endpoint {
	type methods = map[string]endpoint
	return map[string]methods{
		"/v1/clients":      {"GET": a.listClients, "POST": a.createClient},
		"/v1/clients/{id}": {"GET": a.showClient, "PATCH": a.changeClient, "DELETE": a.deleteClient},
		"/v1/users":        {"GET": a.listUsers, "POST": a.createUser},
		"/v1/users/{name}": {"GET": a.showUser, "PATCH": a.changeUser, "DELETE": a.deleteUser},
		"/v1/grants":       {"GET": a.listGrants},
		"/v1/grants/{id}":  {"GET": a.showGrant, "DELETE": a.revokeGrant},
		"/v1/events":       {"GET": a.listEvents},
		"/v1/explain":      {"POST": a.explain},
		"/v1/keys":         {"GET": a.listKeys, "POST": a.rotateKeys},
		"/v1/keys/{id}":    {"DELETE": a.deleteKey},
		"/v1/purge":        {"POST": a.purge},
		"/v1/stats":        {"GET": a.stats},
		"/v1/backup":       {"GET": a.backup},
	}
}

// serve chooses the endpoint by method; nil methods are of a path that is not
// there.
func (a *api) serve(methods map[string]endpoint) http.Handler {
	allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		do, ok := methods[r.Method]
		switch {
		case methods == nil:
			writeProblem(w, refuse(http.StatusNotFound, "There is nothing at this path.", ""))
		case !ok:
			w.Header().Set("Allow", allowed)
			writeProblem(w, refuse(http.StatusMethodNotAllowed, "The method "+oauth.Legal(r.Method)+" is not for this path.", "use "+allowed))
		default:
			if err := do(w, r); err != nil {
				a.fail(w, r, err)
			}
		}
	})
}

func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	told, ours := problemOf(err)
	if ours {
		a.Log.ErrorContext(r.Context(), "administration failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeProblem(w, told)
}

// authorized serves requests with the admin token only.
func (a *api) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		token, ok := oauth.BearerToken(r.Header.Get("Authorization"))
		if !ok || a.Token.Empty() || !a.Token.Equal(token) {
			a.Log.WarnContext(r.Context(), "administration refused: no or wrong admin token", "address", a.Address(r))
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeProblem(w, refuse(http.StatusUnauthorized, "The request needs the admin token.",
				"send Authorization: Bearer and the token that the server keeps in its data directory as admin.token"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// operator is who administers by a request.
func (a *api) operator(r *http.Request) issuer.Actor {
	return issuer.Actor{Name: "operator", Address: a.Address(r)}
}

// connectionAddress is the network address at the other end, without port.
func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
