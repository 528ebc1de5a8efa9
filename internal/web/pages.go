package web

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// PagesConfig is what the pages for resource owners are made of. PublicURL,
// Keys and User are required.
type PagesConfig struct {
	PublicURL string       // under which browsers reach the server
	Keys      *secret.Ring // seal the sign-in that the browser keeps
	// User reads a user by name, with issuer.ErrNotFound where there is none.
	User func(ctx context.Context, username string) (issuer.User, error)
	Log  *slog.Logger     // slog.Default() where nil
	Now  func() time.Time // time.Now where nil
}

// Pages are what a resource owner sees: sign-in, consent and errors. They work
// without JavaScript.
type Pages struct {
	config PagesConfig
	secure bool // reached by https
	origin *http.CrossOriginProtection
	look   look
}

// NewPages makes pages. The error says that the URL is not one.
func NewPages(config PagesConfig) (*Pages, error) {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	public, err := url.Parse(config.PublicURL)
	if err != nil {
		return nil, err
	}
	p := &Pages{config: config, secure: public.Scheme == "https", look: newLook("layout", "sign_in", "consent", "error", "landing")}
	p.origin, err = sameOrigin(public)
	return p, err
}

// sameOrigin lets only pages of this server send forms to it.
func sameOrigin(public *url.URL) (*http.CrossOriginProtection, error) {
	origin := http.NewCrossOriginProtection()
	// Behind a proxy the Host header need not be the one that browsers see.
	return origin, origin.AddTrustedOrigin(public.Scheme + "://" + public.Host)
}

// Ask is an issuer.AskOwner: it has the resource owner sign in, and then asks
// what they grant. Every page and form is at the URL of the authorization
// request. A client that is trusted gets all that it asks for.
func (p *Pages) Ask(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	if r.Method == http.MethodPost {
		return p.act(w, r, ask)
	}
	user, err := p.signedIn(r)
	switch {
	case errors.Is(err, errSignedOut):
		p.showSignIn(w, http.StatusOK, ask, "", "")
	case err != nil:
		p.fail(w, r, err)
	case ask.Client.Trusted:
		return issuer.Answer{Subject: user.Username, Scope: ask.Scope}, true
	default:
		p.showConsent(w, http.StatusOK, ask, user, ask.Scope, "")
	}
	return issuer.Answer{}, false
}

// act does what a form says.
func (p *Pages) act(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	if err := p.origin.Check(r); err != nil {
		p.Error(w, r, http.StatusForbidden, "This form was sent by another site. Nothing was done.")
		return issuer.Answer{}, false
	}
	switch r.PostFormValue("action") {
	case "sign_in":
		p.signIn(w, r, ask)
	case "sign_out":
		p.setCookie(w, "", -1)
		again(w, r)
	case "allow":
		return p.allow(w, r, ask)
	case "deny":
		return issuer.Answer{Denied: true}, true
	default:
		p.Error(w, r, http.StatusBadRequest, "The form says something that this server does not understand.")
	}
	return issuer.Answer{}, false
}

// again sends the browser to the same URL with GET.
func again(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", "?"+r.URL.RawQuery) // relative, so that it holds below any prefix of a proxy
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

func (p *Pages) signIn(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) {
	username := r.PostFormValue("username")
	user, err := ask.SignIn(r.Context(), username, secret.NewText(r.PostFormValue("password")))
	if refusal, ok := errors.AsType[*issuer.Refusal](err); ok {
		p.refuseSignIn(w, ask, username, refusal)
		return
	}
	if err == nil {
		err = p.keepSignIn(w, user)
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	again(w, r)
}

func (p *Pages) refuseSignIn(w http.ResponseWriter, ask *issuer.Authorization, username string, refusal *issuer.Refusal) {
	if refusal.Cause != issuer.CauseLoginThrottled {
		p.showSignIn(w, http.StatusForbidden, ask, username, "The user name or the password is wrong.")
		return
	}
	seconds := int(math.Ceil(refusal.RetryAfter.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	p.showSignIn(w, http.StatusTooManyRequests, ask, username, "There were too many attempts. Wait "+roughly(seconds)+", then try again.")
}

// allow reads which scopes are granted, by whom.
func (p *Pages) allow(w http.ResponseWriter, r *http.Request, ask *issuer.Authorization) (issuer.Answer, bool) {
	user, err := p.signedIn(r)
	if errors.Is(err, errSignedOut) {
		p.showSignIn(w, http.StatusForbidden, ask, "", "You are no longer signed in. Sign in to go on.")
		return issuer.Answer{}, false
	}
	if err != nil {
		p.fail(w, r, err)
		return issuer.Answer{}, false
	}
	var granted oauth.Scope
	for _, token := range ask.Scope {
		if slices.Contains(r.PostForm["scope"], token) {
			granted = append(granted, token)
		}
	}
	switch {
	case r.PostFormValue("username") != user.Username:
		// The page is older than a change of users in another tab.
		p.showConsent(w, http.StatusConflict, ask, user, granted, "Another user is signed in now. Look again before you decide.")
	case len(granted) == 0 && len(ask.Scope) > 0:
		p.showConsent(w, http.StatusBadRequest, ask, user, nil, "Choose at least one, or deny.")
	default:
		return issuer.Answer{Subject: user.Username, Scope: granted}, true
	}
	return issuer.Answer{}, false
}

// errorPage is what the error page shows.
type errorPage struct{ Title, Message string }

// Error shows an error, for issuer.Config.ErrorPage.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int, message string) {
	title := "This request cannot be served"
	if status >= 500 {
		title = "Something went wrong"
	}
	p.look.show(w, status, "error", title, errorPage{title, message})
}

// fail shows that the server failed, and keeps why in the log.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.config.Log.ErrorContext(r.Context(), "page failed", "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "1")
	p.Error(w, r, http.StatusServiceUnavailable, "The server cannot answer at the moment. Reload the page to try again.")
}

// Landing shows what this server is.
func (p *Pages) Landing(w http.ResponseWriter, r *http.Request) {
	p.look.show(w, http.StatusOK, "landing", "Evergrant", nil)
}
