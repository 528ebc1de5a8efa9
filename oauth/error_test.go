package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/oauth"
)

func TestErrorHTTPStatus(t *testing.T) {
	tests := []struct {
		code         string
		status, want int
	}{
		{oauth.InvalidRequest, 0, http.StatusBadRequest},
		{oauth.InvalidClient, 0, http.StatusUnauthorized},
		{oauth.InvalidGrant, 0, http.StatusBadRequest},
		{oauth.UnauthorizedClient, 0, http.StatusBadRequest},
		{oauth.UnsupportedGrantType, 0, http.StatusBadRequest},
		{oauth.InvalidScope, 0, http.StatusBadRequest},
		{oauth.AccessDenied, 0, http.StatusBadRequest},
		{oauth.UnsupportedResponseType, 0, http.StatusBadRequest},
		{oauth.ServerError, 0, http.StatusInternalServerError},
		{oauth.TemporarilyUnavailable, 0, http.StatusServiceUnavailable},
		{oauth.UnsupportedTokenType, 0, http.StatusBadRequest},
		{oauth.InvalidToken, 0, http.StatusUnauthorized},
		{oauth.InsufficientScope, 0, http.StatusForbidden},
		{"of_an_extension", 0, http.StatusBadRequest},
		{"", 0, http.StatusBadRequest},
		{oauth.InvalidRequest, http.StatusMethodNotAllowed, http.StatusMethodNotAllowed},
		{oauth.TemporarilyUnavailable, http.StatusTooManyRequests, http.StatusTooManyRequests},
		{oauth.InvalidClient, http.StatusBadRequest, http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.code, " ", tt.status), func(t *testing.T) {
			if got := (&oauth.Error{Code: tt.code, Status: tt.status}).HTTPStatus(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	var err error = &oauth.Error{Code: oauth.InvalidGrant}
	if err.Error() != "invalid_grant" {
		t.Errorf("got %q", err)
	}
	err = &oauth.Error{Code: oauth.InvalidGrant, Description: "The code has expired.", URI: "https://as.example/errors", Status: 400}
	if err.Error() != "invalid_grant: The code has expired." {
		t.Errorf("got %q", err)
	}
	if found, ok := errors.AsType[*oauth.Error](fmt.Errorf("refresh: %w", err)); !ok || found.Code != oauth.InvalidGrant {
		t.Error("it is not found in the error that wraps it")
	}
}

func TestErrorJSON(t *testing.T) {
	tests := []struct {
		name string
		err  oauth.Error
		want string
	}{
		{"code only", oauth.Error{Code: oauth.InvalidRequest}, `{"error":"invalid_request"}`},
		{"status stays here", oauth.Error{Code: oauth.InvalidRequest, Status: 405}, `{"error":"invalid_request"}`},
		{"all", oauth.Error{Code: oauth.InvalidScope, Description: "Too much.", URI: "https://as.example/e"},
			`{"error":"invalid_scope","error_description":"Too much.","error_uri":"https://as.example/e"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(&tt.err)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v", got, err)
			}
			var back oauth.Error
			if err := json.Unmarshal(got, &back); err != nil || back.Code != tt.err.Code || back.Description != tt.err.Description || back.Status != 0 {
				t.Errorf("read back as %+v, %v", back, err)
			}
		})
	}
}

func TestLegal(t *testing.T) {
	for c := range 0x180 {
		want := string(rune(c))
		if legal := c == 0x20 || c == 0x21 || 0x23 <= c && c <= 0x5b || 0x5d <= c && c <= 0x7e; !legal { // RFC 6749 section 5.2
			want = "?"
		}
		if got := oauth.Legal("a" + string(rune(c)) + "b"); got != "a"+want+"b" {
			t.Errorf("character %#x becomes %q", c, got)
		}
	}
	for in, want := range map[string]string{
		"":                         "",
		"The scope is not allowed": "The scope is not allowed",
		`say "hi"\`:                "say ?hi??",
		"two\r\nlines":             "two??lines",
		"€ and 😀":                  "? and ?",
		"\xff\xfe":                 "??",
	} {
		if got := oauth.Legal(in); got != want || oauth.Legal(got) != got {
			t.Errorf("Legal(%q) = %q, want %q", in, got, want)
		}
	}
}
