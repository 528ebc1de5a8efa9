package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// list reads a list of texts: as PHP serializes an array, as JSON, or divided by
// commas or spaces, which are what Doctrine's types array, json and simple_array
// are.
func list(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "" || text == "N;" || text == "null":
		return nil, nil
	case strings.HasPrefix(text, "a:"):
		return phpStrings(text)
	case strings.HasPrefix(text, "["):
		var all []string
		if json.Unmarshal([]byte(text), &all) != nil {
			return nil, errors.New("it is not a JSON array of strings")
		}
		return all, nil
	case strings.HasPrefix(text, "{"): // of an array in PHP whose keys have gaps
		var all map[int]string
		if json.Unmarshal([]byte(text), &all) != nil {
			return nil, errors.New("it is not a JSON object of numbered strings")
		}
		var list []string
		for _, key := range slices.Sorted(maps.Keys(all)) {
			list = append(list, all[key])
		}
		return list, nil
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }), nil
}

// Bounds of what phpStrings reads.
const (
	maxPHPBytes   = 1 << 20
	maxPHPStrings = 10_000
)

var (
	phpCount = regexp.MustCompile(`^a:([0-9]{1,5}):\{`)
	phpKey   = regexp.MustCompile(`^i:-?[0-9]{1,18};`)
	phpText  = regexp.MustCompile(`^s:([0-9]{1,7}):"`)
)

// phpStrings reads an array of strings as PHP's serialize writes it, whatever its
// keys are: a:2:{i:0;s:1:"x";i:1;s:1:"y";}. Nothing else that PHP can serialize is
// read.
func phpStrings(text string) ([]string, error) {
	bad := errors.New("it is not an array of strings as PHP serializes one")
	if len(text) > maxPHPBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxPHPBytes)
	}
	head := phpCount.FindStringSubmatch(text)
	if head == nil {
		return nil, bad
	}
	count, _ := strconv.Atoi(head[1])
	if count > maxPHPStrings {
		return nil, fmt.Errorf("it has more than %d entries", maxPHPStrings)
	}
	rest := text[len(head[0]):]
	var all []string
	for range count {
		if key := phpKey.FindString(rest); key != "" {
			rest = rest[len(key):]
		} else if _, after, ok := phpString(rest); ok {
			rest = after
		} else {
			return nil, bad
		}
		value, after, ok := phpString(rest)
		if !ok {
			return nil, bad
		}
		all, rest = append(all, value), after
	}
	if rest != "}" {
		return nil, bad
	}
	return all, nil
}

// phpString reads one string, whose length is in bytes: s:1:"x";
func phpString(text string) (value, rest string, ok bool) {
	head := phpText.FindStringSubmatch(text)
	if head == nil {
		return "", "", false
	}
	length, _ := strconv.Atoi(head[1])
	text = text[len(head[0]):]
	if len(text) < length+2 || text[length:length+2] != `";` {
		return "", "", false
	}
	return text[:length], text[length+2:], true
}

// spaced is a scope with one space between its tokens.
func spaced(scope string) string { return strings.Join(strings.Fields(scope), " ") }

// grantTypes are those of another server by the names that the RFCs have.
func grantTypes(types []string) []string {
	for i, t := range types {
		if t == "token" {
			types[i] = oauth.GrantImplicit
		}
	}
	return types
}

// putSecret gives a client its secret, which is clear unless it has the form of a
// hash.
func putSecret(c *evergrant.ImportClient, text string) error {
	if strings.HasPrefix(text, "$2") || strings.HasPrefix(text, "$argon2") {
		v, err := secret.ForeignVerifier(text)
		c.Verifier = v
		return err
	}
	c.Secret = secret.NewText(text)
	return nil
}

var hexDigits = regexp.MustCompile(`^[0-9A-Fa-f]+$`)

// password is what verifies a password: one of the forms that say what they are,
// or an unsalted digest in hexadecimal, which its length tells.
func password(text string) (secret.Verifier, error) {
	form := map[int]string{32: "{md5}", 40: "{sha1}", 64: "{sha256}", 128: "{sha512}"}[len(text)]
	if hexDigits.MatchString(text) {
		text = form + text
	}
	v, err := secret.ForeignVerifier(text)
	if err != nil {
		return "", fmt.Errorf("what verifies the password is not known here: %w", err)
	}
	return v, nil
}

// userError says why a user is left out.
func userError(name string, reason error) error {
	return &RowError{Kind: "user", Name: quotable(name), Reason: reason.Error()}
}

// clientError says why a client is left out.
func clientError(id string, reason error) error {
	return &RowError{Kind: "client", Name: quotable(id), Reason: reason.Error()}
}

// tokenError says why a token is left out, without what it is.
func tokenError(t evergrant.ImportToken, reason error) error {
	name := "of client " + quotable(t.ClientID)
	if t.Subject != "" {
		name += ", user " + quotable(t.Subject)
	}
	return &RowError{Kind: "token", Name: name, Reason: reason.Error()}
}

// quotable is a name as an error shows it: itself, unless there is something odd
// in it.
func quotable(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) || len(name) > 255 {
		return strconv.QuoteToASCII(string(bytes.ToValidUTF8([]byte(name[:min(len(name), 255)]), nil)))
	}
	return name
}

// subject is who a token is for: the name of the user that its row joins, else
// that user's address, else the number alone. "" where it has no user.
func subject(r row) string {
	if r.null("user_id") {
		return ""
	}
	for _, name := range []string{"username", "email"} {
		if r.text(name) != "" {
			return r.text(name)
		}
	}
	return r.text("user_id")
}

// finish is what becomes of a token when it has been read. owner says what is wrong
// with its user, or is nil.
func (s *Source) finish(t evergrant.ImportToken, owner error) (evergrant.ImportToken, error) {
	switch {
	case !t.ExpiresAt.IsZero() && !s.now.Before(t.ExpiresAt):
		return t, errExpired
	case t.Token.Empty():
		return t, tokenError(t, errors.New("it is empty"))
	case t.ClientID == "":
		return t, tokenError(t, errors.New("it has no client"))
	case owner != nil:
		return t, tokenError(t, owner)
	}
	return t, nil
}
