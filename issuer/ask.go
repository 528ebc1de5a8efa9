package issuer

import (
	"context"
	"net/http"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// AskOwner finds out who the resource owner is and what they grant. It serves
// GET and POST requests to the authorization endpoint whose query is a valid
// authorization request, over as many round trips as it needs: until it knows,
// it writes a page or a redirect to the same URL and returns false. When it
// returns true it has written nothing, and the server sends the browser back to
// the client.
//
// It must protect its forms against cross-site requests and framing.
type AskOwner func(w http.ResponseWriter, r *http.Request, ask *Authorization) (Answer, bool)

// Authorization is a valid authorization request (RFC 6749 section 4.1.1) that
// waits for the resource owner.
type Authorization struct {
	Client      Client
	Scope       oauth.Scope // what the client asks for, all of it allowed to it
	RedirectURI string
	// Descriptions has the words for each scope of Scope; the scope itself
	// where none are configured.
	Descriptions map[string]string

	server  *Server
	address string
}

// SignIn checks a user name and password as the password grant does: throttled,
// with an event. The error is a *Refusal with CauseCredentialsWrong or
// CauseLoginThrottled, or one of the store.
func (a *Authorization) SignIn(ctx context.Context, username string, password secret.Text) (User, error) {
	user, err := a.server.authenticate(ctx, a.Client.ID, a.address, username, password)
	if err != nil {
		return User{}, err
	}
	a.server.record(ctx, Event{
		At: a.server.cfg.now(), Type: EventLoginSucceeded, ClientID: a.Client.ID, Subject: user.Username,
		Actor: "user:" + user.Username, Address: a.address,
	})
	return user, nil
}

// Answer is what the resource owner decided.
type Answer struct {
	Subject string      // user name
	Scope   oauth.Scope // granted: all of the request's or a part
	Denied  bool        // the owner refused; the client gets access_denied
}
