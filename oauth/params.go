package oauth

import (
	"fmt"
	"io"
	"net/url"
	"slices"
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
	for name, given := range values {
		if len(given) > 1 && !slices.Contains(repeatable, name) {
			return Params{}, &ParamsError{"The parameter " + Legal(name) + " is given more than once."}
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
