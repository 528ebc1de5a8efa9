package providertest

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Consent is what the owner says to an authorization request.
type Consent int

// The consents. The owner is the login_hint of the request, or "owner".
const (
	Ask   Consent = iota // a page with two buttons
	Allow                // at once
	Deny                 // at once
)

// SetConsent changes what the owner says from now on.
func (s *Simulator) SetConsent(c Consent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consent = c
}

// codeLife is how long codes can be redeemed.
const codeLife = time.Minute

// authorize is the authorization endpoint (RFC 6749 section 4.1.1): the page, or
// the redirect back to the client.
func (s *Simulator) authorize(q *request) answer {
	asked, redirect, problem := s.asked(q)
	if problem != "" {
		return page(http.StatusBadRequest, map[string]any{"Title": "This request is not understood", "Text": problem})
	}
	consent := s.consent
	if q.http.Method == http.MethodPost {
		consent = Deny
		if q.params["decision"] == "allow" {
			consent = Allow
		}
	}
	if consent == Ask {
		return page(http.StatusOK, map[string]any{"Title": s.dialect.Name + " (simulated)", "Ask": true, "Scope": s.dialect.scope(asked.Get("scope")),
			"Text": fmt.Sprintf("%s asks for access to what belongs to %s.", s.options.ClientID, ownerOf(asked))})
	}
	told := redirect.Query()
	if state := asked.Get("state"); state != "" {
		told.Set("state", state)
	}
	if no := s.refusedConsent(asked, consent); no != nil {
		code := s.dialect.code(no)
		told.Set("error", fmt.Sprint(code.Value))
		told.Set("error_description", code.Text)
	} else {
		s.consented(q, asked, told)
	}
	redirect.RawQuery = told.Encode()
	return answer{http.StatusFound, http.Header{"Location": {redirect.String()}, "Cache-Control": {"no-store"}}, nil}
}

// asked reads an authorization request. What is wrong with it is told on a page
// where nobody can be trusted to be redirected to.
func (s *Simulator) asked(q *request) (asked url.Values, redirect *url.URL, problem string) {
	asked = q.http.URL.Query()
	idName := cmp.Or(s.dialect.Names["client_id"], "client_id")
	redirect, err := url.Parse(asked.Get("redirect_uri"))
	switch {
	case asked.Get(idName) != s.options.ClientID:
		problem = "The client is not known."
	case err != nil || !redirect.IsAbs():
		problem = "The redirect_uri is missing or not a URL."
	case len(s.options.RedirectURIs) > 0 && !slices.Contains(s.options.RedirectURIs, asked.Get("redirect_uri")):
		problem = "The redirect_uri is not registered."
	}
	return asked, redirect, problem
}

func (s *Simulator) refusedConsent(asked url.Values, consent Consent) *refused {
	switch challenge := asked.Get("code_challenge"); {
	case asked.Get("response_type") != "code":
		return refuse(RefuseRequest, "The response_type must be code.")
	case challenge != "" && asked.Get("code_challenge_method") != "S256", challenge == "" && s.dialect.PKCE:
		return refuse(RefuseRequest, "A code_challenge with the method S256 is needed.")
	case consent == Deny:
		return refuse(RefuseConsent, "The owner refused.")
	}
	return nil
}

// consented makes the code and what else the redirect tells.
func (s *Simulator) consented(q *request, asked, told url.Values) {
	c := &code{owner: ownerOf(asked), redirect: asked.Get("redirect_uri"), challenge: asked.Get("code_challenge"),
		scope: s.dialect.scope(asked.Get("scope")), expires: q.At.Add(codeLife)}
	for name, value := range s.dialect.Offline {
		c.online = c.online || asked.Get(name) != value
	}
	value := s.mint("sim_code_")
	s.codes[value] = c
	told.Set("code", value)
	for name, text := range s.dialect.Redirect {
		filled, _ := s.facts(q, &grant{Grant: Grant{Owner: c.owner}}).text(text)
		told.Set(name, fmt.Sprint(filled))
	}
}

func ownerOf(asked url.Values) string { return cmp.Or(asked.Get("login_hint"), "owner") }

// page is what the owner sees. It posts to its own address.
func page(status int, about map[string]any) answer {
	layout := template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{{.Title}}</title></head>
<body><main><h1>{{.Title}}</h1><p>{{.Text}}</p>
{{if .Ask}}{{with .Scope}}<ul>{{range .}}<li>{{.}}</li>{{end}}</ul>{{end}}
<form method="post"><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>{{end}}
</main></body></html>
`))
	var out bytes.Buffer
	if err := layout.Execute(&out, about); err != nil {
		panic(err) // the template and what it shows are of this package
	}
	return content(status, "text/html; charset=utf-8", out.Bytes())
}
