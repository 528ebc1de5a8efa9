package keeper

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// connectLifetime is how long the link to the connect page lives, and how long
// an owner may take at the provider.
const connectLifetime = 30 * time.Minute

// Connect asks for an owner's consent at a provider.
type Connect struct {
	Provider   string
	Tenant     string
	Owner      string
	Connection string // to repair or to make under this id; made of a random id where ""
	Params     map[string]string
	ReturnURL  string // where the browser goes at the end; http or https
}

// ticket is what a link or a state carries, sealed.
type ticket struct {
	Provider   string            `json:"p"`
	Tenant     string            `json:"t,omitempty"`
	Owner      string            `json:"o,omitempty"`
	Connection string            `json:"c"`
	Params     map[string]string `json:"a,omitempty"`
	ReturnURL  string            `json:"r,omitempty"`
	Until      int64             `json:"u"` // seconds since the epoch

	// Of a state alone: the PKCE verifier, which is also what makes each state
	// another one, and the digest of the browser's binding.
	Verifier string `json:"v,omitempty"`
	Browser  []byte `json:"b,omitempty"`
}

// What a ticket is for is authenticated with it, so that a link is no state.
const (
	ticketLink  = "connect/link"
	ticketState = "connect/state"
)

func (t *ticket) connect() Connect {
	return Connect{Provider: t.Provider, Tenant: t.Tenant, Owner: t.Owner, Connection: t.Connection, Params: t.Params, ReturnURL: t.ReturnURL}
}

// Link makes the sealed text of a link to the connect page, which lives for half
// an hour. It refuses what [Keeper.Begin] would refuse later, in front of the
// owner. The error is a *[Refusal] or the store's.
func (k *Keeper) Link(ctx context.Context, in Connect) (token string, expires time.Time, err error) {
	_, t, err := k.ticket(ctx, in)
	if err != nil {
		return "", time.Time{}, err
	}
	return k.sealTicket(t, ticketLink), time.Unix(t.Until, 0).UTC(), nil
}

// OpenLink reads the sealed text of a link. What it gives has the id of its
// connection, a new one where Link was given none. The error is a *[Refusal].
func (k *Keeper) OpenLink(token string) (Connect, error) {
	t, ok := k.openTicket(token, ticketLink)
	switch {
	case !ok:
		return Connect{}, refuse(ReasonBadLink, "this link is damaged, or was not made here: ask for a new one")
	case k.now().Unix() >= t.Until:
		return Connect{}, refuse(ReasonLinkExpired, "this link was good until %s: ask for a new one", time.Unix(t.Until, 0).UTC().Format(time.RFC3339))
	}
	return t.connect(), nil
}

// Begin makes the state and URL of an authorization request. The state is sealed
// and carries the whole of Connect; binding, a random text in a cookie of the
// browser, ties it to that browser. The error is a *[Refusal], the store's, or a
// *[provider.Error] where the provider's metadata cannot be had now.
func (k *Keeper) Begin(ctx context.Context, in Connect, binding string) (authorizeURL string, err error) {
	if binding == "" {
		return "", refuse(ReasonOtherBrowser, "the browser has no cookie to tie the request to: allow cookies for this site")
	}
	p, t, err := k.ticket(ctx, in)
	if err != nil {
		return "", err
	}
	t.Verifier = base64.RawURLEncoding.EncodeToString(secret.Bytes(32))
	t.Browser = digest(binding)
	authorizeURL, err = p.AuthorizeURL(ctx, provider.Authorization{
		State: k.sealTicket(t, ticketState), Challenge: oauth.Challenge(t.Verifier), Params: t.Params, Owner: t.Owner,
	})
	if failure, ok := errors.AsType[*provider.Error](err); ok && failure.Class != provider.BadDefinition {
		return "", failure
	}
	if err != nil {
		return "", refuse(ReasonBadDefinition, "owners cannot be sent to %s until an operator mends its definition or registration: %s", p.Name(), printable(err.Error()))
	}
	return authorizeURL, nil
}

// ticket checks what is asked for and fills it in from the connection that is to
// be repaired, if there is one.
func (k *Keeper) ticket(ctx context.Context, in Connect) (*provider.Provider, *ticket, error) {
	p, err := k.provider(in.Provider)
	if err != nil {
		return nil, nil, err
	}
	if def := p.Definition(); def.Grant == string(provider.ClientCredentials) || def.AuthorizeURL == "" && def.Issuer == "" {
		return nil, nil, refuse(ReasonNoOwnerNeeded, "%s asks no owner: create the connection instead", p.Name())
	}
	if !validReturn(in.ReturnURL) {
		return nil, nil, refuse(ReasonBadField, "return_url must be an http or https URL of at most %d bytes without user and fragment", maxReturnURL)
	}
	row, err := k.repaired(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	in.Owner = cmp.Or(in.Owner, row.Owner)
	if len(in.Params) == 0 {
		in.Params = row.Params
	}
	fresh, err := k.newRow(p, in)
	if err != nil {
		return nil, nil, err
	}
	return p, &ticket{
		Provider: in.Provider, Tenant: in.Tenant, Owner: in.Owner, Connection: fresh.ID, Params: fresh.Params, ReturnURL: in.ReturnURL,
		Until: k.now().Add(connectLifetime).Unix(),
	}, nil
}

// repaired is the connection that has the id of in, or none. The error is a
// *[Refusal] where it is not for whoever holds in.
func (k *Keeper) repaired(ctx context.Context, in Connect) (Connection, error) {
	if !ValidID(in.Connection) { // which newRow refuses, unless one is to be made
		return Connection{}, nil
	}
	row, err := k.cfg.Store.Connection(ctx, in.Connection)
	switch {
	case errors.Is(err, ErrNotFound):
		return Connection{}, nil
	case err != nil:
		return row, err
	}
	return row, in.fits(&row)
}

// fits refuses a connection that is not the one to be repaired.
func (in *Connect) fits(row *Connection) error {
	if row.Provider != in.Provider || row.Tenant != in.Tenant || in.Owner != "" && row.Owner != in.Owner {
		return refuse(ReasonOtherConnection, "the id %s is in use for something else: choose another, or leave it out", in.Connection)
	}
	return nil
}

// maxReturnURL is the longest return URL, in bytes: it travels in the state,
// and many providers take URLs of 2,000 to 8,000 bytes.
const maxReturnURL = 1000

func validReturn(text string) bool {
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxReturnURL && (u.Scheme == "https" || u.Scheme == "http") &&
		u.Host != "" && u.User == nil && u.Fragment == "" && !strings.Contains(text, "#")
}

// Finish takes the redirect to the callback: checks state, browser and issuer,
// redeems the code through the same journal as a refresh, and makes or repairs
// the connection. Connect is given beside every error after the state proved
// true, so that the browser can be sent back where it came from. The error is a
// *[Refusal], an *[Unusable] where the provider is down, or the store's.
func (k *Keeper) Finish(ctx context.Context, query map[string][]string, binding string) (Connect, Connection, error) {
	t, err := k.openState(ctx, query, binding)
	if err != nil {
		return Connect{}, Connection{}, err
	}
	in := t.connect()
	p, err := k.provider(in.Provider)
	if err != nil {
		return in, Connection{}, err
	}
	code, told, kept, err := redirected(p, query)
	if err != nil {
		return in, Connection{}, err
	}
	made, err := k.beginConnection(ctx, p, in)
	if err != nil {
		return in, Connection{}, err
	}
	verifier := t.Verifier
	if p.Definition().Authorize.PKCE == "none" {
		verifier = ""
	}
	ctx = context.WithoutCancel(ctx) // a code is redeemed once, whether the browser waits or not
	params := maps.Clone(in.Params)
	if params == nil {
		params = map[string]string{}
	}
	maps.Copy(params, told)
	c, err := k.exchange(ctx, in, secret.NewText(code), secret.NewText(verifier), params, kept, Actor{Name: "owner"})
	if err != nil {
		if made {
			k.discard(ctx, in.Connection)
		}
		return in, c, notExchanged(p, err)
	}
	k.wake()
	return in, c, nil
}

// notExchanged is what the owner is told of a code that gave no tokens.
func notExchanged(p *provider.Provider, err error) error {
	failure, ok := errors.AsType[*provider.Error](err)
	if !ok {
		return err
	}
	refusal := refuse(ReasonCodeRefused, "%s gave no tokens (%s): connect again", p.Name(), printable(failure.Error()))
	refusal.Code = printable(failure.Code)
	return refusal
}

// openState opens the state of a callback and uses it up.
func (k *Keeper) openState(ctx context.Context, query map[string][]string, binding string) (*ticket, error) {
	again := "go back to where you came from and connect again"
	text, ok := one(query, "state")
	t, opened := k.openTicket(text, ticketState)
	now := k.now()
	switch {
	case !ok || !opened:
		return nil, refuse(ReasonBadState, "this page was not reached from a connect link, or its address was changed: %s", again)
	case now.Unix() >= t.Until:
		return nil, refuse(ReasonStateExpired, "it took longer than %s: %s", connectLifetime, again)
	case subtle.ConstantTimeCompare(t.Browser, digest(binding)) != 1:
		return nil, refuse(ReasonOtherBrowser, "this browser is not the one that the connect link was opened in, or does not keep cookies: %s", again)
	}
	isNew, err := k.cfg.Store.Once(ctx, "connect/"+base64.RawURLEncoding.EncodeToString(digest(t.Verifier)), now, time.Unix(t.Until, 0))
	switch {
	case err != nil:
		return nil, err
	case !isNew:
		return nil, refuse(ReasonReplayed, "this page was opened before: look whether the connection is there, or %s", again)
	}
	return t, nil
}

// redirected is what the provider sent the owner back with.
func redirected(p *provider.Provider, query map[string][]string) (code string, params map[string]string, kept map[string]any, err error) {
	if failed, ok := one(query, "error"); ok && failed != "" {
		reason := ReasonProviderError
		if words := strings.ToLower(failed); strings.Contains(words, "denied") || strings.Contains(words, "cancel") {
			reason = ReasonDenied
		}
		description, _ := one(query, "error_description")
		refusal := refuse(reason, "%s answered %s: connect again", p.Name(), printable(strings.TrimRight(failed+": "+description, ": ")))
		refusal.Code = printable(failed)
		return "", nil, nil, refusal
	}
	code, ok := one(query, "code")
	if !ok || code == "" {
		return "", nil, nil, refuse(ReasonBadCallback, "%s sent the browser back without a code: connect again", p.Name())
	}
	if params, kept, err = p.Redirected(query); err != nil {
		return "", nil, nil, refuse(ReasonBadCallback, "%s sent the browser back with what was not expected (%s): connect again", p.Name(), printable(err.Error()))
	}
	return code, params, kept, nil
}

const (
	// connectGrace is when the background looks at what became of a code, should
	// the process that redeemed it have ended.
	connectGrace = 5 * time.Minute
	// discardTimeout bounds how long the browser waits for a lease.
	discardTimeout = 2 * time.Second
)

// beginConnection makes the row of a new connection, for the journal to stand
// in, and reports whether it did.
func (k *Keeper) beginConnection(ctx context.Context, p *provider.Provider, in Connect) (made bool, err error) {
	row, err := k.repaired(ctx, in)
	if err != nil || row.ID != "" {
		return false, err
	}
	c, err := k.newRow(p, in)
	if err != nil {
		return false, err
	}
	c.DueAt = c.CreatedAt.Add(connectGrace)
	err = k.cfg.Store.Create(ctx, c, k.event(&c, EventCreated).by(Actor{Name: "owner"}))
	if errors.Is(err, ErrExists) { // made since, or by a try whose outcome was not known
		_, err = k.repaired(ctx, in)
		return false, err
	}
	return err == nil, err
}

// neverConnected reports whether a row was made for a code, and nothing came of
// it.
func neverConnected(c *Connection) bool {
	return c.State == Reauthorize && c.Cause == CauseNotConnected && c.Generation == 0 && c.Intent == nil
}

// discard removes a connection that was made for a code which gave no tokens,
// unless there is something in it after all. What it cannot remove now, it will
// when that is due.
func (k *Keeper) discard(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, discardTimeout)
	defer cancel()
	w, err := k.hold(ctx, id, holdFor)
	if err == nil && !neverConnected(&w.c) {
		err = w.unlock(ctx, nil)
	} else if err == nil {
		event := k.event(&w.c, EventDeleted)
		event.Detail = "It was never connected."
		err = k.remove(ctx, w, event)
	}
	if err != nil {
		k.cfg.Log.Warn("a connection that was never connected stays for now", "connection", id, "error", err)
	}
}

func (k *Keeper) sealTicket(t *ticket, use string) string {
	plaintext, _ := json.Marshal(t) // strings, numbers and bytes
	sealed := k.cfg.Keys.Seal(secret.ConnectSeal, plaintext, []byte(use))
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, sealed.KeyID), sealed.Data...))
}

// openTicket opens what sealTicket made for a use.
func (k *Keeper) openTicket(text, use string) (*ticket, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < 4 {
		return nil, false
	}
	plaintext, err := k.cfg.Keys.Open(secret.ConnectSeal, secret.Sealed{KeyID: binary.BigEndian.Uint32(raw), Data: raw[4:]}, []byte(use))
	if err != nil {
		return nil, false
	}
	var t ticket
	return &t, json.Unmarshal(plaintext, &t) == nil
}

// one is the value of a parameter that is there once (RFC 6749 section 3.1).
func one(query map[string][]string, name string) (string, bool) {
	values := query[name]
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// maxPrintable is how much of a provider's words is shown, in characters.
const maxPrintable = 300

// printable is a text of a provider as it can be shown: one line, cut.
func printable(text string) string {
	line := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
	if len(line) > maxPrintable {
		line = append(line[:maxPrintable], '…')
	}
	return string(line)
}
