package provider

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

const (
	// maxKept bounds the metadata that is kept of an answer, in bytes of JSON.
	maxKept = 64 << 10
	// maxScope bounds a scope, in bytes.
	maxScope = 64 << 10
)

// Read reads an answer. The error is an *[Error]. It is a pure function of the
// definition and the answer, so that an answer from the journal can be read
// again when the definition was mended.
//
// Of a JSON answer that broke off the tokens are taken if all that a definition
// lets expect of them is there in full.
func (p *Provider) Read(answer Answer) (Tokens, error) {
	doc := parse(answer.Body, answer.Cut)
	if answer.Status/100 == 2 && p.succeeded(doc) {
		if tokens, ok := p.tokens(answer, doc); ok {
			return tokens, nil
		}
	}
	return Tokens{}, p.refusal(answer, doc)
}

// succeeded reports whether nothing speaks against success. Where an answer
// broke off, what it would have said does not.
func (p *Provider) succeeded(doc document) bool {
	success := p.cfg.Definition.Response.Success
	return success == nil || success.holds(doc) || !doc.whole && find(doc.root, success.Path) == nil
}

// holds reports whether an answer has the value, or any where none is named.
func (m *Match) holds(doc document) bool {
	if m.Path == "" {
		return true
	}
	found := find(doc.root, m.Path)
	value := text(found)
	if len(m.Is) == 0 && m.Has == "" {
		return found != nil
	}
	if len(m.Is) > 0 && !slices.Contains(m.Is, value) {
		return false
	}
	return m.Has == "" || strings.Contains(strings.ToLower(value), strings.ToLower(m.Has))
}

// tokens takes the tokens out of an answer, and reports whether all are there.
func (p *Provider) tokens(answer Answer, doc document) (Tokens, bool) {
	d := &p.cfg.Definition
	r, inside := &d.Response, doc.root
	if r.Envelope != "" {
		switch envelope := nested(find(doc.root, r.Envelope)).(type) {
		case map[string]any:
			inside = envelope
		case nil:
			if !doc.whole {
				return Tokens{}, false // those outside of it may be others
			}
		default:
			return Tokens{}, false
		}
	}
	t := Tokens{
		AccessToken:  tokenAt(inside, r.AccessToken),
		RefreshToken: tokenAt(inside, r.RefreshToken),
		TokenType:    tokenType(text(find(inside, r.TokenType))),
		Scope:        scopeOf(find(inside, r.Scope)),
		Salvaged:     answer.Cut || !doc.whole,
	}
	rotates := d.RefreshToken.Rotation != RotationFixed && d.RefreshToken.Rotation != RotationNone
	switch {
	case t.AccessToken.Empty() && !p.prolonged(answer, doc):
		return Tokens{}, false
	case !doc.whole && t.RefreshToken.Empty() && rotates:
		return Tokens{}, false
	}
	t.ExpiresAt = ends(inside, r.Expires, answer.SentAt, d.AccessToken.Lifetime, d.AccessToken.ZeroIsForever)
	if !t.RefreshToken.Empty() || d.RefreshToken.Rotation != RotationNone {
		t.RefreshExpiresAt = ends(inside, r.RefreshEnds, answer.SentAt, d.RefreshToken.IdleLifetime, d.AccessToken.ZeroIsForever)
	}
	if d.RefreshToken.DiesWithAccessToken && (t.RefreshExpiresAt.IsZero() || t.RefreshExpiresAt.After(t.ExpiresAt)) {
		t.RefreshExpiresAt = t.ExpiresAt
	}
	t.Params = p.told(doc.root, "answer:")
	for name, path := range r.Extra {
		if extra := tokenAt(nested(find(doc.root, path)), "access_token"); !extra.Empty() {
			if t.Extra == nil {
				t.Extra = map[string]secret.Text{}
			}
			t.Extra[name] = extra
		}
	}
	t.Kept = t.keep(doc.root, r.Keep)
	return t, true
}

// prolonged reports whether an answer says that the old tokens live on.
func (p *Provider) prolonged(answer Answer, doc document) bool {
	r := &p.cfg.Definition.Response
	code, _ := p.errorOf(doc)
	return r.Prolongs && answer.Kind == Refresh && !answer.Cut && doc.whole && !doc.html && (r.Success != nil || code == "")
}

// tokenAt is a token, which may be a number, or empty.
func tokenAt(node any, path string) secret.Text {
	switch v := find(node, path).(type) {
	case bool:
		return secret.Text{}
	default:
		return secret.NewText(text(v))
	}
}

// tokenType is a token type that can be sent in a header, or "".
func tokenType(s string) string {
	if len(s) > 100 || strings.ContainsFunc(s, notInName) {
		return ""
	}
	return s
}

// scopeOf is a scope, nil where there is none. What RFC 6749 section 3.3 does
// not allow in one is left out.
func scopeOf(v any) oauth.Scope {
	var words []string
	if list, ok := v.([]any); ok {
		for _, item := range list {
			words = append(words, text(item))
		}
	} else {
		words = strings.FieldsFunc(text(v), func(c rune) bool { return strings.ContainsRune(" ,+\t\r\n", c) })
	}
	length := 0
	words = slices.DeleteFunc(words, func(word string) bool {
		length += len(word) + 1
		_, err := oauth.ParseScope(word)
		return err != nil || length > maxScope
	})
	scope, _ := oauth.ParseScope(strings.Join(words, " ")) // each has been tried
	return scope
}

// told are the params of the definition that the provider tells at a place,
// which begins their field From. Values that a param must not have are ignored:
// to lose the tokens over them would be worse.
func (p *Provider) told(node any, place string) map[string]string {
	var params map[string]string
	for name, param := range p.cfg.Definition.Params {
		path, ok := strings.CutPrefix(param.From, place)
		if value := text(find(node, path)); ok && value != "" && !p.fixed[name] && p.patterns[name].MatchString(value) {
			if params == nil {
				params = map[string]string{}
			}
			params[name] = value
		}
	}
	return params
}

// keep takes metadata out of an answer, as long as there is room for it. None
// may hold one of the tokens, since metadata is shown.
func (t Tokens) keep(root any, paths map[string]string) map[string]any {
	var kept map[string]any
	room := maxKept
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		v := find(root, paths[name])
		encoded, err := json.Marshal(v)
		if v == nil || err != nil || room < len(name)+len(encoded) || t.within(encoded) {
			continue
		}
		if kept == nil {
			kept = map[string]any{}
		}
		kept[name] = v
		room -= len(name) + len(encoded)
	}
	return kept
}

// within reports whether a text in JSON has one of the tokens.
func (t Tokens) within(text []byte) bool {
	for _, token := range append(slices.Collect(maps.Values(t.Extra)), t.AccessToken, t.RefreshToken) {
		encoded, err := json.Marshal(token.Reveal())
		if err == nil && len(token.Reveal()) >= minSecret && bytes.Contains(text, encoded[1:len(encoded)-1]) {
			return true
		}
	}
	return false
}
