// Package web serves what people and operators see of a server: the API of
// administration and of the keeper under /v1/, the sign-in, consent and error
// pages, the pages where owners connect, the operators' console, health, and the
// handler that joins them with the issuer's endpoints and metrics.
//
// It never imports a store; cmd joins them.
package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// SiteConfig is what a server serves. Pages and Ready are required.
type SiteConfig struct {
	Issuer http.Handler // serves whatever no other part does; nothing where nil
	Pages  *Pages
	// Ready says why the database cannot be read or written, or nil.
	Ready   func(context.Context) error
	API     http.Handler // under /v1/, see NewAPI; none where nil
	Connect http.Handler // under /connect/, see NewConnect; none where nil
	Console http.Handler // under /console/, see NewConsole; none where nil
	Metrics http.Handler // at /metrics; none where nil

	// Address tells the network address of whoever sent a request, for the log;
	// the connection's where nil.
	Address func(*http.Request) string
	Log     *slog.Logger     // slog.Default() where nil
	Now     func() time.Time // time.Now where nil
}

// readyTimeout bounds how long a check of readiness waits for the database.
const readyTimeout = 5 * time.Second

// NewSite joins the parts of a server into one handler. A panic in one of them
// is answered with 500 and leaves the others alone.
func NewSite(config SiteConfig) http.Handler {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Address == nil {
		config.Address = connectionAddress
	}
	mux := http.NewServeMux()
	if config.Issuer != nil {
		mux.Handle("/", config.Issuer)
	}
	mux.HandleFunc("GET /{$}", config.Pages.Landing)
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", config.serveReadiness)
	for path, part := range map[string]http.Handler{"/v1/": config.API, connectPath: config.Connect, "/console/": config.Console} {
		if part != nil {
			mux.Handle(path, part)
		}
	}
	if config.Metrics != nil {
		mux.Handle("GET /metrics", config.Metrics)
	}
	return config.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if config.API != nil && strings.HasPrefix(r.URL.EscapedPath(), proxyPath) {
			config.API.ServeHTTP(w, r) // a mux would clean the path, which is the provider's to read
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// loggedPath is a request's path without the secret of a connect link.
func loggedPath(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, connectPath) && r.URL.Path != CallbackPath {
		return connectPath + "..."
	}
	return r.URL.Path
}

// serveHealth says that the process lives.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	io.WriteString(w, "ok\n")
}

// serveReadiness says whether the server can do its work.
func (c SiteConfig) serveReadiness(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not ready: "+err.Error()+"\n")
		return
	}
	io.WriteString(w, "ready\n")
}

// guard recovers panics and writes the access log, at debug level. The log has
// no query strings, which can hold what is not for it.
func (c SiteConfig) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer := &answer{ResponseWriter: w}
		defer c.recover(answer, r)
		if !c.Log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(answer, r)
			return
		}
		begin := c.Now()
		next.ServeHTTP(answer, r)
		c.Log.DebugContext(r.Context(), "request", "method", r.Method, "path", loggedPath(r), "status", answer.status,
			"duration", c.Now().Sub(begin), "address", c.Address(r))
	})
}

// recover answers a panic with 500, or breaks the connection off where an
// answer has begun, which must not pass for a whole one.
func (c SiteConfig) recover(w *answer, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause != http.ErrAbortHandler {
		c.Log.ErrorContext(r.Context(), "panic", "method", r.Method, "path", loggedPath(r), "panic", cause, "stack", string(debug.Stack()))
	}
	if cause == http.ErrAbortHandler || w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, refuse(http.StatusInternalServerError, "The server failed; its log says why.", ""))
}

// answer remembers the status of an answer, 0 until it has begun.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
