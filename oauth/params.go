package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Params are the parameters of a request, each given at most once except those
// that may repeat. They print as their names only, since values can be secrets.
// The zero value has none.
type Params struct {
	given func() url.Values // nil or a closure: fmt shows a map, and behind a pointer too, of a struct around it
}

// repeatable parameters may be given more than once: a resource indicator
// (RFC 8707 section 2) and an audience (RFC 8693 section 2.1).
var repeatable = []string{"resource", "audience"}

// ParamsError says why the parameters of a request cannot be read. Its text is
// fit for an error_description.
type ParamsError struct{ Reason string }

// Error is the reason.
func (e *ParamsError) Error() string { return e.Reason }

// ParseParams reads an application/x-www-form-urlencoded string, a body or a
// query. A parameter without a value counts as omitted, one given twice is
// refused (RFC 6749 sections 3.1 and 3.2), and so is a value that is not UTF-8
// (appendix B) or has a NUL, which not every database takes. The error is a
// *ParamsError.
func ParseParams(encoded string) (Params, error) {
	values, err := url.ParseQuery(encoded)
	if err != nil {
		return Params{}, &ParamsError{"The parameters are not valid " + FormType + "."}
	}
	return newParams(values)
}

// ParseJSONParams reads a JSON object whose members are texts, numbers or truth
// values, as some servers take their requests instead of a form. A null counts as
// omitted. The error is a *ParamsError.
func ParseJSONParams(body []byte) (Params, error) {
	bad := &ParamsError{"The body is not a JSON object."}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') || !utf8.Valid(body) {
		return Params{}, bad
	}
	values := url.Values{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return Params{}, bad
		}
		value, err := d.Token()
		if err != nil {
			return Params{}, bad
		}
		var text string
		switch value := value.(type) {
		case string:
			text = value
		case json.Number:
			text = value.String()
		case bool:
			text = strconv.FormatBool(value)
		case json.Delim:
			return Params{}, &ParamsError{"The parameter " + Legal(name.(string)) + " must be a text or a number: the members of the JSON object are the parameters themselves."}
		}
		values.Add(name.(string), text)
	}
	if _, err := d.Token(); err != nil {
		return Params{}, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Params{}, bad
	}
	for name, given := range values { // what may repeat in a form has no form for that here
		if len(given) > 1 {
			return Params{}, twice(name)
		}
	}
	return newParams(values)
}

// ParseMultipart reads a multipart/form-data body (RFC 7578) with a boundary, as
// some servers take it beside a form. Files are left out. The error is a
// *ParamsError.
func ParseMultipart(body []byte, boundary string) (Params, error) {
	values, parts := url.Values{}, multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if err == io.EOF { // a body without an end has one wrapped
			return newParams(values)
		}
		var value []byte
		if err == nil {
			value, err = io.ReadAll(part)
		}
		if err != nil {
			return Params{}, &ParamsError{"The body is not valid multipart/form-data."}
		}
		if part.FileName() == "" {
			values.Add(part.FormName(), string(value))
		}
	}
}

func twice(name string) *ParamsError {
	return &ParamsError{"The parameter " + Legal(name) + " is given more than once."}
}

// newParams checks parameters.
func newParams(values url.Values) (Params, error) {
	for name, given := range values {
		if len(given) > 1 && !slices.Contains(repeatable, name) {
			return Params{}, twice(name)
		}
		for _, value := range given {
			if !isText(value) {
				return Params{}, &ParamsError{"The parameter " + Legal(name) + " is not UTF-8 or contains a NUL character."}
			}
		}
	}
	return Params{func() url.Values { return values }}, nil
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// Get is the value of a parameter, the first of one that repeats, or "" if it
// was omitted.
func (p Params) Get(name string) string {
	for _, value := range p.values()[name] {
		if value != "" {
			return value
		}
	}
	return ""
}

// All are the values of a parameter that may repeat, empty ones left out.
func (p Params) All(name string) []string {
	return slices.DeleteFunc(slices.Clone(p.values()[name]), func(v string) bool { return v == "" })
}

// With is p with a parameter in place of what it had of that name.
func (p Params) With(name, value string) Params {
	values := maps.Clone(p.values())
	if values == nil {
		values = url.Values{}
	}
	values.Set(name, value)
	return Params{func() url.Values { return values }}
}

// Has reports whether the parameter was given with a value.
func (p Params) Has(name string) bool { return p.Get(name) != "" }

func (p Params) values() url.Values {
	if p.given == nil {
		return nil
	}
	return p.given()
}

// Format prints the names of the parameters and none of their values, whatever
// the verb.
func (p Params) Format(f fmt.State, _ rune) {
	names := make([]string, 0, len(p.values()))
	for name := range p.values() {
		names = append(names, Legal(name))
	}
	slices.Sort(names)
	io.WriteString(f, "params["+strings.Join(names, " ")+"]")
}
