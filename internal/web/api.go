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
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
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

// APIConfig is what the API, the console and the connect pages are made of.
// Token is required; a part whose field is nil answers that it is not running.
type APIConfig struct {
	Token secret.Text // the admin token; nobody is the operator while it is empty

	// Admin and Database administer the issuer.
	Admin    *issuer.Admin
	Database Database
	// Inspect is [issuer.Server.Inspect]. Where it is nil, no access token counts,
	// only the admin token.
	Inspect func(ctx context.Context, token string) (oauth.Introspection, issuer.Client, error)

	// Keeper keeps connections. With it go its providers, the lists of its store,
	// the keys that seal what browsers keep, and the URL under which they reach
	// the server.
	Keeper      *keeper.Keeper
	Providers   []*provider.Provider
	Connections keeper.Lists
	Events      keeper.EventStore
	Keys        *secret.Ring
	PublicURL   string
	// Hooks has the feed of all events, the issuer's too, and the log of webhook
	// deliveries.
	Hooks hook.Store

	// Stopping is closed when the server stops, and ends the streams of events;
	// they would keep it waiting.
	Stopping <-chan struct{}

	// Address tells the network address of whoever sent a request, as
	// issuer.Config.Address does; the connection's where nil.
	Address func(*http.Request) string
	Log     *slog.Logger     // slog.Default() where nil
	Now     func() time.Time // time.Now where nil
}

// filled is the configuration with its defaults.
func (c APIConfig) filled() APIConfig {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Address == nil {
		c.Address = connectionAddress
	}
	return c
}

// api serves /v1/.
type api struct {
	APIConfig
	// registry is held while a client or user is read, changed and written
	// back, so that of two requests at once neither undoes the other.
	registry sync.Mutex
	tail     *tail // of the events; nil without Hooks
	streams  atomic.Int64
	vain     vain
}

// newAPI is what the API, the console and the connect pages have in common.
func newAPI(config APIConfig) *api {
	a := &api{APIConfig: config.filled()}
	a.vain = vain{now: a.Now, until: map[string]time.Time{}}
	return a
}

// NewAPI serves the API of administration and of the keeper under /v1/. Answers
// are JSON, errors are problem documents (RFC 9457).
func NewAPI(config APIConfig) http.Handler {
	a := newAPI(config)
	if a.Hooks != nil {
		a.tail = newTail(a.Hooks, a.Log)
	}
	mux := http.NewServeMux()
	for path, operations := range a.resources() {
		mux.Handle(path, a.serve(operations))
	}
	mux.Handle("/", a.serve(nil))
	proxy := a.serveProxy(a.newProxy())
	return a.authorized(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), proxyPath) {
			proxy(w, r) // a mux would clean the path, which is the provider's to read
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// endpoint does one thing. It has written nothing when it returns an error.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// operation is an endpoint with the scope that it needs; without one it is the
// operator's.
type operation struct {
	scope string
	do    endpoint
}

// resources are the API: what each method does at each path.
func (a *api) resources() map[string]map[string]operation {
	all := map[string]map[string]operation{
		"/v1/events":              {"GET": {ScopeRead, a.listEvents}},
		"/v1/explain":             {"POST": {ScopeRead, a.explain}},
		"/v1/webhooks/deliveries": {"GET": {"", a.listDeliveries}},
	}
	running, missing := a.Keeper != nil, "The keeper is not running here."
	for path, operations := range a.keeping() {
		all[path] = whereRunning(operations, running, missing)
	}
	running, missing = a.Admin != nil, "The issuer is not running here."
	for path, endpoints := range a.administration() {
		operations := map[string]operation{}
		for method, do := range endpoints {
			operations[method] = operation{"", do}
		}
		all[path] = whereRunning(operations, running, missing)
	}
	return all
}

// whereRunning are operations, or their refusal where their part of the server
// is missing.
func whereRunning(operations map[string]operation, running bool, missing string) map[string]operation {
	if running {
		return operations
	}
	refused := map[string]operation{}
	for method, op := range operations {
		refused[method] = operation{op.scope, func(http.ResponseWriter, *http.Request) error {
			return refuse(http.StatusNotFound, missing, "ask the server that runs it, or start this one without --only")
		}}
	}
	return refused
}

func (a *api) administration() map[string]map[string]endpoint {
	type methods = map[string]endpoint
	return map[string]methods{
		"/v1/clients":             {"GET": a.listClients, "POST": a.createClient},
		"/v1/clients/{id}":        {"GET": a.showClient, "PATCH": a.changeClient, "DELETE": a.deleteClient},
		"/v1/clients/{id}/habits": {"DELETE": a.forgetHabits},
		"/v1/habits":              {"GET": a.listHabits},
		"/v1/users":               {"GET": a.listUsers, "POST": a.createUser},
		"/v1/users/{name}":        {"GET": a.showUser, "PATCH": a.changeUser, "DELETE": a.deleteUser},
		"/v1/grants":              {"GET": a.listGrants, "DELETE": a.revokeGrants},
		"/v1/grants/{id}":         {"GET": a.showGrant, "DELETE": a.revokeGrant},
		"/v1/keys":                {"GET": a.listKeys, "POST": a.rotateKeys},
		"/v1/keys/{id}":           {"DELETE": a.deleteKey},
		"/v1/purge":               {"POST": a.purge},
		"/v1/stats":               {"GET": a.stats},
		"/v1/backup":              {"GET": a.backup},
		"/v1/import":              {"POST": a.importBatch},
		"/v1/import/gone":         {"POST": a.importGone},
	}
}

func (a *api) keeping() map[string]map[string]operation {
	type methods = map[string]operation
	return map[string]methods{
		"/v1/connections":              {"GET": {ScopeRead, a.listConnections}, "POST": {ScopeWrite, a.createConnection}},
		"/v1/connections/{id}":         {"GET": {ScopeRead, a.showConnection}, "DELETE": {ScopeWrite, a.deleteConnection}},
		"/v1/connections/{id}/token":   {"GET": {ScopeToken, a.token}},
		"/v1/connections/{id}/refresh": {"POST": {ScopeWrite, a.refreshConnection}},
		"/v1/connections/{id}/pause":   {"POST": {ScopeWrite, a.pauseConnection}},
		"/v1/connections/{id}/resume":  {"POST": {ScopeWrite, a.resumeConnection}},
		"/v1/connections/{id}/history": {"GET": {ScopeRead, a.connectionHistory}},
		"/v1/connections/{id}/explain": {"GET": {ScopeRead, a.explainConnection}},
		"/v1/connect-sessions":         {"POST": {ScopeWrite, a.createConnectSession}},
		"/v1/providers":                {"GET": {ScopeRead, a.listProviders}},
		"/v1/providers/{name}":         {"GET": {ScopeRead, a.showProvider}},
	}
}

// serve chooses the operation by method; nil operations are of a path that is
// not there.
func (a *api) serve(operations map[string]operation) http.Handler {
	allowed := strings.Join(slices.Sorted(maps.Keys(operations)), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op, ok := operations[r.Method]
		switch {
		case operations == nil:
			writeProblem(w, refuse(http.StatusNotFound, "There is nothing at this path.", ""))
		case !ok:
			w.Header().Set("Allow", allowed)
			writeProblem(w, refuse(http.StatusMethodNotAllowed, "The method "+oauth.Legal(r.Method)+" is not for this path.", "use "+allowed))
		case !callerOf(r).may(op.scope):
			writeProblem(w, insufficient(w, op.scope))
		default:
			if err := op.do(w, r); err != nil {
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
	if told.Code == codeReauthorize {
		told.ConnectURL = a.repairURL(r, told.Connection)
	}
	writeProblem(w, told)
}

// connectionAddress is the network address at the other end, without port.
func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
