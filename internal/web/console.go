package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// console is what operators see at /console/. It works without script.
type console struct {
	*api
	look    look
	origin  *http.CrossOriginProtection
	root    string // path of the public URL, "" where it has none
	secure  bool   // reached by https
	guesses *guesses
}

// NewConsole serves the operators' pages under /console/. The error says that
// the public URL is not one.
func NewConsole(config APIConfig) (http.Handler, error) {
	public, err := url.Parse(config.PublicURL)
	if err != nil {
		return nil, err
	}
	c := &console{
		api:  newAPI(config),
		look: newLook("console", "console_sign_in", "console_connections", "console_connection", "console_providers", "console_grants", "console_events", "console_deliveries", "console_error"),
		root: strings.TrimSuffix(public.Path, "/"), secure: public.Scheme == "https",
	}
	c.guesses = &guesses{now: c.Now, full: map[string]time.Time{}}
	if c.origin, err = sameOrigin(public); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for path, page := range map[string]endpoint{
		"/console/{$}":              c.begin,
		"/console/connections":      c.where(c.Keeper != nil, c.connections),
		"/console/connections/{id}": c.where(c.Keeper != nil, c.showConnection),
		"/console/providers":        c.where(c.Keeper != nil, c.providers),
		"/console/grants":           c.where(c.Admin != nil, c.grants),
		"/console/events":           c.events,
		"/console/deliveries":       c.where(c.Hooks != nil, c.deliveries),
		"/console/":                 c.where(false, nil),
	} {
		mux.HandleFunc(path, c.page(page))
	}
	return mux, nil
}

// where is a page, or that there is none.
func (c *console) where(running bool, page endpoint) endpoint {
	if running {
		return page
	}
	return func(http.ResponseWriter, *http.Request) error {
		return refuse(http.StatusNotFound, "There is no such page on this server.", "")
	}
}

// page serves a page to the operator, and the sign-in page in its place to
// others.
func (c *console) page(show endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, POST")
			c.fail(w, r, refuse(http.StatusMethodNotAllowed, "The method is not for this page.", ""))
			return
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			if err := c.origin.Check(r); err != nil {
				c.fail(w, r, refuse(http.StatusForbidden, "This form was sent by another site. Nothing was done.", ""))
				return
			}
			switch r.PostFormValue("action") {
			case "sign_in":
				c.signIn(w, r)
				return
			case "sign_out":
				c.setCookie(w, "", -1)
				again(w, r)
				return
			}
		}
		if !c.signedIn(r) {
			c.showSignIn(w, http.StatusOK, "")
			return
		}
		if err := show(w, r); err != nil {
			c.fail(w, r, err)
		}
	}
}

// consoleLifetime is how long a sign-in to the console lasts.
const consoleLifetime = 12 * time.Hour

// consoleSignIn is what the browser keeps of a sign-in, sealed. Another admin
// token ends it.
type consoleSignIn struct {
	At    time.Time `json:"t"`
	ID    []byte    `json:"i"` // random, since equal plaintexts are sealed to equal bytes
	Token []byte    `json:"a"` // digest of the admin token at the time
}

func (c *console) tokenDigest() []byte {
	digest := sha256.Sum256([]byte("console\x00" + c.Token.Reveal()))
	return digest[:16]
}

func (c *console) cookieName() string {
	if c.secure {
		return "__Host-evergrant_console"
	}
	return "evergrant_console"
}

func (c *console) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: c.cookieName(), Value: value, Path: "/", MaxAge: maxAge,
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

func (c *console) signedIn(r *http.Request) bool {
	for _, cookie := range r.CookiesNamed(c.cookieName()) {
		var state consoleSignIn
		if openText(c.Keys, c.cookieName(), cookie.Value, &state) != nil {
			continue
		}
		return !c.Token.Empty() && c.Now().Sub(state.At) < consoleLifetime && subtle.ConstantTimeCompare(state.Token, c.tokenDigest()) == 1
	}
	return false
}

// signIn takes the admin token. Wrong ones are counted, and where they are too
// many the right one waits as well.
func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	address := c.Address(r)
	if wait := c.guesses.wait(address); wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(wait), 10))
		c.showSignIn(w, http.StatusTooManyRequests, "There were too many attempts. Wait "+roughly(int(wholeSeconds(wait)))+", then try again.")
		return
	}
	if c.Token.Empty() || !c.Token.Equal(strings.TrimSpace(r.PostFormValue("token"))) {
		c.guesses.wrong(address)
		c.Log.WarnContext(r.Context(), "console: wrong admin token", "address", address)
		c.showSignIn(w, http.StatusForbidden, "This is not the admin token.")
		return
	}
	value, err := sealText(c.Keys, c.cookieName(), consoleSignIn{c.Now(), secret.Bytes(16), c.tokenDigest()})
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.Log.InfoContext(r.Context(), "console: signed in", "address", address)
	c.setCookie(w, value, int(consoleLifetime/time.Second))
	again(w, r)
}

// frame is what all pages of the console have around them.
type frame struct {
	Root     string // path of the public URL
	Section  string // the page's place in the navigation; "" where nobody is signed in
	Refresh  int    // seconds after which the page is loaded again; 0 for never
	Sections []section
}

type section struct{ Name, Title string }

func (c *console) frame(name string) frame {
	f := frame{Root: c.root, Section: name}
	for _, s := range []struct {
		section
		running bool
	}{
		{section{"connections", "Connections"}, c.Keeper != nil}, {section{"providers", "Providers"}, c.Keeper != nil},
		{section{"grants", "Grants"}, c.Admin != nil}, {section{"events", "Events"}, true}, {section{"deliveries", "Webhooks"}, c.Hooks != nil},
	} {
		if s.running {
			f.Sections = append(f.Sections, s.section)
		}
	}
	return f
}

// begin goes to the first page that is there.
func (c *console) begin(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", c.root+"/console/"+c.frame("").Sections[0].Name)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (c *console) showSignIn(w http.ResponseWriter, status int, message string) {
	c.look.show(w, status, "console_sign_in", "Console", struct {
		Frame   frame
		Message string
	}{frame{Root: c.root}, message})
}

// fail shows an error, and keeps it in the log where it is the server's.
func (c *console) fail(w http.ResponseWriter, r *http.Request, err error) {
	told, ours := problemOf(err)
	if ours {
		c.Log.ErrorContext(r.Context(), "console page failed", "path", r.URL.Path, "error", err)
	}
	f := frame{Root: c.root}
	if c.signedIn(r) {
		f = c.frame("error")
	}
	c.look.show(w, told.Status, "console_error", told.Title, struct {
		Frame   frame
		Problem *problem
	}{f, told})
}

// operator is who acts by the console.
func (c *console) operator(r *http.Request) keeper.Actor {
	return caller{operator: true}.actor(c.Address(r))
}
