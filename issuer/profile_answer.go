package issuer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/evergrant/evergrant/oauth"
)

// askedGrantType stands in a description for the grant type that was asked for.
const askedGrantType = "{grant_type}"

// encodedJSON is a document that is written as it is.
type encodedJSON []byte

// told is what a client is told of an error.
func (p *Profile) told(err error) *oauth.Error {
	var protocol *oauth.Error
	var refusal *Refusal
	if !errors.As(err, &protocol) && errors.As(err, &refusal) {
		if told, ok := p.Errors[refusal.Cause]; ok {
			return &told
		}
	}
	told := *protocolError(err)
	return &told
}

// errorBody is an error answer in JSON.
func (p *Profile) errorBody(told *oauth.Error) any {
	if !p.NullDescription && !p.EscapeJSON {
		return told
	}
	o := jsonObject{escape: p.EscapeJSON}
	o.text("error", told.Code)
	switch {
	case told.Description != "":
		o.text("error_description", told.Description)
	case p.NullDescription:
		o.member("error_description", "null")
	}
	if told.URI != "" {
		o.text("error_uri", told.URI)
	}
	return o.close()
}

// tokenBody is a successful token answer. What is told of the resource owner is
// left out where it cannot be read: the tokens are given, and must not be lost.
func (s *Server) tokenBody(ctx context.Context, c *registered, t oauth.TokenResponse) any {
	p := c.profile
	t.TokenType = cmp.Or(p.TokenType, t.TokenType)
	if p.Fields == nil {
		return t
	}
	var info json.RawMessage
	if t.Subject != "" && slices.Contains(p.Fields, "info") {
		user, err := s.cfg.Store.User(ctx, t.Subject)
		if ignoreNotFound(err) != nil {
			s.cfg.log().Error("a token answer is without info", "client", c.ID, "error", err)
		}
		info = user.Info
	}
	return p.tokens(t, info)
}

// left is the remaining lifetime of a refresh token as an answer tells it.
func (c *registered) left(d time.Duration) int64 {
	if c.profile.RoundDown {
		d -= time.Second
	}
	return seconds(d)
}

// tokens writes the members of a token answer in the profile's order.
func (p *Profile) tokens(t oauth.TokenResponse, info json.RawMessage) encodedJSON {
	o := jsonObject{escape: p.EscapeJSON}
	for _, name := range p.Fields {
		switch {
		case name == "access_token":
			o.text(name, t.AccessToken)
		case name == "token_type":
			o.text(name, t.TokenType)
		case name == "expires_in":
			o.member(name, strconv.FormatInt(t.ExpiresIn, 10))
		case name == "scope" && t.Scope != "":
			o.text(name, t.Scope)
		case name == "scope" && p.NullScope:
			o.member(name, "null")
		case name == "refresh_token" && t.RefreshToken != "":
			o.text(name, t.RefreshToken)
		case name == "refresh_token_expires_in" && t.RefreshTokenExpiresIn > 0:
			o.member(name, strconv.FormatInt(t.RefreshTokenExpiresIn, 10))
		case name == "info" && len(info) > 0:
			var compact bytes.Buffer
			if json.Compact(&compact, info) == nil {
				o.member(name, compact.String())
			}
		}
	}
	return o.close()
}

// jsonObject is a JSON object whose members have an order.
type jsonObject struct {
	b      []byte
	escape bool // as Profile.EscapeJSON
}

// member adds a value in JSON.
func (o *jsonObject) member(name, value string) {
	separator := byte(',')
	if len(o.b) == 0 {
		separator = '{'
	}
	o.b = append(o.b, separator)
	o.b = append(strconv.AppendQuote(o.b, name), ':') // names are plain words
	o.b = append(o.b, value...)
}

func (o *jsonObject) text(name, value string) {
	if o.escape {
		o.member(name, escapedText(value))
		return
	}
	quoted, _ := json.Marshal(value) // a string is always one in JSON
	o.member(name, string(quoted))
}

func (o *jsonObject) close() encodedJSON {
	if len(o.b) == 0 {
		return encodedJSON("{}")
	}
	return append(o.b, '}')
}

// escapedText is a text in JSON as PHP's json_encode writes it.
func escapedText(s string) string {
	b := []byte{'"'}
	for _, c := range s {
		switch {
		case strings.ContainsRune(`"\/`, c):
			b = append(b, '\\', byte(c))
		case strings.ContainsRune("\b\f\n\r\t", c):
			b = append(b, '\\', "bfnrt"[strings.IndexRune("\b\f\n\r\t", c)])
		case c >= 0x20 && c < utf8.RuneSelf:
			b = append(b, byte(c))
		default:
			for _, unit := range utf16.Encode([]rune{c}) {
				b = fmt.Appendf(b, "\\u%04x", unit)
			}
		}
	}
	return string(append(b, '"'))
}
