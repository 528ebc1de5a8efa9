package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxBody bounds a request's body in bytes. A client with hundreds of redirect
// URIs fits.
const maxBody = 256 << 10

// readJSON reads a request's body, of one of two media types, into a document
// and refuses what the document does not know.
func readJSON(w http.ResponseWriter, r *http.Request, document any) error {
	return readUpTo(w, r, maxBody, document)
}

// readUpTo is readJSON with another bound of the body, in bytes.
func readUpTo(w http.ResponseWriter, r *http.Request, most int64, document any) error {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/json" && mediaType != "application/merge-patch+json" {
		return refuse(http.StatusUnsupportedMediaType, "The body must be JSON.", "send it with Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("The body is larger than %d bytes.", most), "")
	}
	if err != nil {
		return badRequest("The body could not be read to its end.", "send the same request again")
	}
	return unmarshal(body, document)
}

// unmarshal is json.Unmarshal without unknown fields, with errors that name the
// field and are fit to be shown.
func unmarshal(body []byte, document any) error {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(document)
	if err == nil {
		if _, err := decoder.Token(); err != io.EOF {
			return badRequest("The body has something after its JSON document.", "send one JSON document")
		}
		return nil
	}
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// Before the name stand those of Go types that the document embeds.
		field := mistyped.Field[strings.LastIndex(mistyped.Field, ".")+1:]
		if field == "" {
			return badRequest("The body must be a JSON object, not "+article(mistyped.Value)+".", "")
		}
		return badRequest(fmt.Sprintf("The field %q cannot be %s.", field, article(mistyped.Value)), "")
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return badRequest(fmt.Sprintf("The body is not valid JSON: %v, at byte %d.", syntax, syntax.Offset), "")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("The body ends before its JSON document does.", "send a JSON document")
	}
	// encoding/json has no type for this error.
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return badRequest("There is no field "+field+".", "remove the field or correct its name")
	}
	return badRequest("A value in the body is not valid: "+err.Error()+".", "")
}

// article puts "a" or "an" before the JSON type that encoding/json names, which
// may carry the value behind it.
func article(jsonType string) string {
	jsonType, _, _ = strings.Cut(jsonType, " ")
	if strings.ContainsRune("ao", rune(jsonType[0])) {
		return "an " + jsonType
	}
	return "a " + jsonType
}

// Limits of a list's page, in items.
const (
	defaultLimit = 100
	maxLimit     = 500 // half of what stores give at once, which leaves room for one more that says that there is a next page
)

// listing is what a list is asked for.
type listing struct {
	query  url.Values
	cursor string
	limit  int
}

// readListing reads the query of a list, which may have some filters.
func readListing(r *http.Request, filters ...string) (listing, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return listing{}, badRequest("The query is not valid.", "")
	}
	for name, values := range query {
		if name != "cursor" && name != "limit" && !slices.Contains(filters, name) {
			// A filter that is ignored would show what was not asked for.
			return listing{}, badRequest(fmt.Sprintf("There is no query parameter %q here.", name),
				"use "+strings.Join(append(filters, "cursor", "limit"), ", "))
		}
		if len(values) > 1 {
			return listing{}, badRequest(fmt.Sprintf("The query parameter %q is given more than once.", name), "")
		}
	}
	l := listing{query, query.Get("cursor"), defaultLimit}
	if text := query.Get("limit"); text != "" {
		l.limit, err = strconv.Atoi(text)
		if err != nil || l.limit < 1 || l.limit > maxLimit {
			return listing{}, badRequest(fmt.Sprintf("The limit must be a number from 1 to %d.", maxLimit), "")
		}
	}
	return l, nil
}

// ask is how many rows to ask the store for: one more than the page has, which
// says whether there is a next one.
func (l listing) ask() int { return l.limit + 1 }

// writePage answers with a page of rows, each shown as a document, of which
// cursor says where the next page begins.
func writePage[Row, Document any](w http.ResponseWriter, l listing, rows []Row, show func(Row) Document, cursor func(Row) string) error {
	page := struct {
		Items []Document `json:"items"`
		Next  string     `json:"next,omitempty"`
	}{Items: []Document{}}
	if len(rows) > l.limit {
		rows = rows[:l.limit]
		page.Next = cursor(rows[l.limit-1])
	}
	for _, row := range rows {
		page.Items = append(page.Items, show(row))
	}
	return writeJSON(w, http.StatusOK, page)
}

func badCursor() error {
	return badRequest("The cursor is not one that this list gave.", "begin without cursor")
}
