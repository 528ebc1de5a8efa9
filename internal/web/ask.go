package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// signInPage is what the sign-in page shows.
type signInPage struct {
	Client   string // its name
	Username string // as it was typed
	Message  string // what went wrong
}

func (p *Pages) showSignIn(w http.ResponseWriter, status int, ask *issuer.Authorization, username, message string) {
	p.look.show(w, status, "sign_in", "Sign in", signInPage{ask.Client.DisplayName(), username, message})
}

// consentPage is what the consent page shows.
type consentPage struct {
	Client      string // its name
	Destination string // where the browser goes afterwards, in words
	Username    string // who is signed in
	Scopes      []choice
	Message     string // what went wrong
}

// choice is one scope to grant or not.
type choice struct {
	Scope, Description string
	Checked            bool
}

func (p *Pages) showConsent(w http.ResponseWriter, status int, ask *issuer.Authorization, user issuer.User, checked oauth.Scope, message string) {
	page := consentPage{
		Client: ask.Client.DisplayName(), Destination: destination(ask.RedirectURI),
		Username: user.Username, Message: message,
	}
	for _, token := range ask.Scope {
		page.Scopes = append(page.Scopes, choice{token, ask.Descriptions[token], slices.Contains(checked, token)})
	}
	p.look.show(w, status, "consent", "Allow "+page.Client+"?", page)
}

// destination is where a redirect URI leads, as a resource owner can judge it:
// its host, or what receives it on the resource owner's own device.
func destination(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return "an unknown place"
	case u.Scheme == "http":
		return "an application on this computer (" + u.Host + ")" // http is registered for loopback hosts only
	case u.Scheme != "https":
		return "the application " + u.Scheme + " on this device"
	}
	return u.Host
}

// roughly is a waiting time in words.
func roughly(seconds int) string {
	switch minutes := (seconds + 59) / 60; {
	case seconds <= 1:
		return "a second"
	case seconds < 60:
		return strconv.Itoa(seconds) + " seconds"
	case minutes == 1:
		return "a minute"
	default:
		return strconv.Itoa(minutes) + " minutes"
	}
}
