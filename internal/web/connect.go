package web

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// CallbackPath is where providers send the owner's browser back to, below the
// public URL. It is the one redirect URI to register at all of them.
const CallbackPath = connectPath + "callback"

// connectPages are what an owner sees who connects: what is asked for, and what
// came of it. They work without script.
type connectPages struct {
	*api
	look   look
	origin *http.CrossOriginProtection
	root   string // path of the public URL
	secure bool   // reached by https
}

// NewConnect serves the pages under /connect/. The error says that the public
// URL is not one.
func NewConnect(config APIConfig) (http.Handler, error) {
	public, err := url.Parse(config.PublicURL)
	if err != nil {
		return nil, err
	}
	p := &connectPages{
		api: newAPI(config), look: newLook("layout", "connect", "connected", "connect_error"),
		root: strings.TrimSuffix(public.Path, "/"), secure: public.Scheme == "https",
	}
	if p.origin, err = sameOrigin(public); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	if p.Keeper == nil {
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			p.showProblem(w, r, keeper.Connect{}, refuse(http.StatusNotFound, "This server connects to no other services.", ""))
		})
		return mux, nil
	}
	mux.HandleFunc("GET "+CallbackPath, p.callback)
	mux.HandleFunc("POST "+CallbackPath, p.postedCallback)
	mux.HandleFunc("GET "+connectPath+"{link}", p.ask)
	mux.HandleFunc("POST "+connectPath+"{link}", p.leave)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.showProblem(w, r, keeper.Connect{}, &keeper.Refusal{Reason: keeper.ReasonBadLink, Detail: "this is not a connect link: ask for a new one"})
	})
	return mux, nil
}

// connectPage is what the page of a link shows.
type connectPage struct {
	Provider string // its title
	Host     string // where the browser goes to give consent; "" where that is not known yet
	Owner    string
	Again    bool // the connection was there before
	Scopes   oauth.Scope
	Return   string // where the browser goes at the end, in words; "" where it stays
}

// ask shows what the link is for. The owner leaves by a button: a link alone,
// which anybody may have sent, connects nothing.
func (p *connectPages) ask(w http.ResponseWriter, r *http.Request) {
	in, err := p.Keeper.OpenLink(r.PathValue("link"))
	if err != nil {
		p.showProblem(w, r, in, err)
		return
	}
	page := connectPage{Provider: p.titleOf(in.Provider), Owner: in.Owner}
	if registered, ok := p.provider(in.Provider); ok {
		page.Scopes, page.Host = registered.Scopes(), consentHost(registered.Definition())
	}
	if in.ReturnURL != "" {
		page.Return = destination(in.ReturnURL)
	}
	switch c, err := p.Keeper.Connection(r.Context(), in.Connection); {
	case err == nil:
		page.Again = c.Cause != keeper.CauseNotConnected
	case !errors.Is(err, keeper.ErrNotFound):
		p.showProblem(w, r, in, err)
		return
	}
	p.look.show(w, http.StatusOK, "connect", "Connect "+page.Provider, page)
}

// consentHost is the host of a definition's authorization page, where it is the
// same for all connections.
func consentHost(d *provider.Definition) string {
	u, err := url.Parse(d.AuthorizeURL)
	if err != nil || strings.Contains(d.AuthorizeURL, "{") {
		return ""
	}
	return u.Host
}

// leave sends the browser to the provider, tied to a cookie.
func (p *connectPages) leave(w http.ResponseWriter, r *http.Request) {
	in, err := p.Keeper.OpenLink(r.PathValue("link"))
	if err == nil {
		if p.origin.Check(r) != nil {
			err = refuse(http.StatusForbidden, "This form was sent by another site. Nothing was done.", "")
		}
	}
	if err != nil {
		p.showProblem(w, r, in, err)
		return
	}
	unhurried(w) // metadata of the provider may have to be fetched
	to, err := p.Keeper.Begin(r.Context(), in, p.bind(w, r))
	if err != nil {
		p.showProblem(w, r, in, err)
		return
	}
	p.redirect(w, to)
}

// redirect sends the browser on with GET, which tells nobody where it came from.
func (p *connectPages) redirect(w http.ResponseWriter, to string) {
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

// bindingSize is that of the random number in a browser's cookie, in bytes.
const bindingSize = 32

func (p *connectPages) bindingCookie() string {
	if p.secure {
		return "__Host-evergrant_connect"
	}
	return "evergrant_connect"
}

// bind is what ties a request to this browser: a random number in a cookie, one
// for all requests, so that several can be under way in several tabs. Lax, since
// the browser comes back from the provider's site.
func (p *connectPages) bind(w http.ResponseWriter, r *http.Request) string {
	binding := p.binding(r)
	if binding == "" {
		binding = base64.RawURLEncoding.EncodeToString(secret.Bytes(bindingSize))
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.bindingCookie(), Value: binding, Path: "/", MaxAge: 24 * 60 * 60,
		Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return binding
}

// binding is what the browser has, or "".
func (p *connectPages) binding(r *http.Request) string {
	cookie, err := r.Cookie(p.bindingCookie())
	if err != nil || len(cookie.Value) != base64.RawURLEncoding.EncodedLen(bindingSize) {
		return ""
	}
	return cookie.Value
}

// postedCallback is a callback in a form body (OAuth 2.0 Form Post Response
// Mode), turned into a GET: with a POST from another site browsers do not send
// the cookie.
func (p *connectPages) postedCallback(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		p.showProblem(w, r, keeper.Connect{}, refuse(http.StatusBadRequest, "The form could not be read.", ""))
		return
	}
	p.redirect(w, p.root+CallbackPath+"?"+r.PostForm.Encode())
}

// callback takes the owner back from the provider.
func (p *connectPages) callback(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		query = nil // so that its state is no good
	}
	in, c, err := p.Keeper.Finish(r.Context(), query, p.binding(r))
	if err != nil {
		p.showProblem(w, r, in, err)
		return
	}
	if in.ReturnURL != "" {
		p.redirect(w, returnTo(in.ReturnURL, c.ID, "connected"))
		return
	}
	p.look.show(w, http.StatusOK, "connected", p.titleOf(c.Provider)+" is connected", connectPage{Provider: p.titleOf(c.Provider), Owner: c.Owner})
}

// returnTo is a return URL with what came of it.
func returnTo(returnURL, connection, status string) string {
	u, err := url.Parse(returnURL)
	if err != nil {
		return returnURL // it was checked when the link was made
	}
	if u.RawQuery != "" { // the URL's own, kept as it is
		u.RawQuery += "&"
	}
	u.RawQuery += url.Values{"connection": {connection}, "status": {status}}.Encode()
	return u.String()
}

// connectErrorPage is what the page of a failure shows.
type connectErrorPage struct {
	Title, Message string
	Retry          string // URL of a new link; "" where that would not help
	Back           string // URL of the application; "" where none is known
	BackName       string
}
