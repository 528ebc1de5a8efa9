package provider_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// TestExpiry reads lifetimes in all forms that providers use. A value that
// makes no sense leaves what is known otherwise: here two hours.
func TestExpiry(t *testing.T) {
	const (
		hour  = time.Hour
		day   = 24 * hour
		other = 2 * hour
		never = time.Duration(0) // or not known
	)
	in := sentAt.Add(hour)
	tests := []struct {
		form  string
		value string // in JSON
		want  time.Duration
	}{
		{"", `3600`, hour},
		{"", `"3600"`, hour}, // PayPal
		{"", `" 3600 "`, hour},
		{"", `3599.5`, 3599500 * time.Millisecond},
		{"", `3.6e3`, hour},
		{"", `"3.6E+3"`, hour},
		{"", `1199`, 1199 * time.Second},
		{"", `315360000`, 3650 * day}, // Linear's ten years
		{"", `""`, other},
		{"", `null`, other},
		{"", `true`, other},
		{"", `{}`, other},
		{"", `[3600]`, other},
		{"", `"soon"`, other},
		{"", `0`, other},
		{"", `"0"`, other},
		{"", `-1`, other},
		{"", `-3600.5`, other},
		{"", `1e-9`, other},
		{"", `1e9`, 1e9 * time.Second}, // 31 years
		{"", `9223372036854775807`, other},
		{"", `1e400`, other},
		{"", `"Infinity"`, other},
		{"", `"NaN"`, other},
		{"", `"0x10"`, other},
		{"seconds", `3600`, hour},
		{"milliseconds", `3600000`, hour},
		{"milliseconds", `"3600000"`, hour},
		{"milliseconds", `0`, other},
		{"milliseconds", `1e300`, other},
		{"unix", fmt.Sprint(in.Unix()), hour},
		{"unix", fmt.Sprintf(`"%d"`, in.Unix()), hour},
		{"unix", fmt.Sprint(sentAt.Unix()), other},
		{"unix", `3600`, other}, // long ago
		{"unix", `0`, other},
		{"unix", `-1`, other},
		{"unix", `1e18`, other},
		{"unix", `1e308`, other},
		{"unix_ms", fmt.Sprint(in.UnixMilli()), hour},
		{"unix_ms", fmt.Sprint(in.Unix()), other},
		{"rfc3339", `"2030-01-02T04:04:05Z"`, hour},
		{"rfc3339", `"2030-01-02T04:04:05.5Z"`, hour + 500*time.Millisecond},
		{"rfc3339", `"2030-01-02T06:04:05+02:00"`, hour},
		{"rfc3339", `"2030-01-02T06:04:05+0200"`, hour},
		{"rfc3339", `"2030-01-02T04:04:05"`, hour},
		{"rfc3339", `"2030-01-02T04:04:05.000"`, hour},
		{"rfc3339", `"2030-01-02 04:04:05"`, hour},
		{"rfc3339", `"2030-01-02 04:04:05Z"`, hour},
		{"rfc3339", `"2020-01-02T04:04:05Z"`, other},
		{"rfc3339", `"9999-12-31T23:59:59Z"`, other},
		{"rfc3339", `"2030-13-02T04:04:05Z"`, other},
		{"rfc3339", `"tomorrow"`, other},
		{"rfc3339", `3600`, other},
		{"http_date", `"Wed, 02 Jan 2030 04:04:05 GMT"`, hour},
		{"http_date", `"Wednesday, 02-Jan-30 04:04:05 GMT"`, hour},
		{"http_date", `"Wed, 02 Jan 2019 04:04:05 GMT"`, other},
		{"http_date", `"x"`, other},
		{"days_clock", `"0:01:00"`, hour},
		{"days_clock", `"365:00:30"`, 365*day + hour/2},
		{"days_clock", `"1:00"`, other},
		{"days_clock", `"1:-1:00"`, other},
		{"days_clock", `"0:00:00"`, other},
		{"days_clock", `"65535:00:00"`, other},
		{"days_clock", `"99999999:00:00"`, other},
		{"auto", fmt.Sprint(in.Unix()), hour},
		{"auto", fmt.Sprint(in.UnixMilli()), hour},
		{"auto", fmt.Sprintf(`"%d"`, in.UnixMilli()), hour},
		{"auto", `"2030-01-02T04:04:05Z"`, hour},
		{"auto", `"Wed, 02 Jan 2030 04:04:05 GMT"`, hour},
		{"auto", `3600`, other},
		{"auto", `"never"`, other},
	}
	for _, tt := range tests {
		t.Run(tt.form+" "+tt.value, func(t *testing.T) {
			d := plain("https://acme.example")
			d.Response.Expires = []provider.Expiry{{Path: "x", Form: tt.form}}
			d.Response.RefreshEnds = []provider.Expiry{{Path: "x", Form: tt.form}}
			d.AccessToken.Lifetime, d.RefreshToken.IdleLifetime = oauth.Lifetime(other), oauth.Lifetime(other)
			answer := answerOf(200, `{"access_token":"a","refresh_token":"r","x":`+tt.value+`}`)
			tokens, err := register(t, d).Read(answer)
			if err != nil {
				t.Fatal(err)
			}
			if got := readOf(t, tokens); got.expires != tt.want || got.refreshEnds != tt.want {
				t.Errorf("%v and %v, want %v", got.expires, got.refreshEnds, tt.want)
			}
			d.AccessToken.Lifetime, d.RefreshToken.IdleLifetime = oauth.None, 0
			if tokens, err = register(t, d).Read(answer); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == other {
				want = never
			}
			if got := readOf(t, tokens); got.expires != want || got.refreshEnds != want {
				t.Errorf("with nothing known otherwise: %v and %v, want %v", got.expires, got.refreshEnds, want)
			}
		})
	}
}

// TestExpiryChoice holds which of several ways counts.
func TestExpiryChoice(t *testing.T) {
	at := func(in time.Duration) string { return fmt.Sprint(sentAt.Add(in).Unix()) }
	tests := []struct {
		name, fields string
		change       func(*provider.Definition)
		want         time.Duration
		refreshEnds  time.Duration
	}{
		{name: "both by default (Strava)", fields: `"expires_at":` + at(time.Minute) + `,"expires_in":3600`, want: time.Hour},
		{name: "the second where the first is empty", fields: `"expires_at":` + at(time.Minute) + `,"expires_in":""`, want: time.Minute},
		{name: "the second as a date (Square)", fields: `"expires_at":"2030-01-02T03:05:05Z","refresh_token_expires_at":"2030-01-03T03:04:05Z"`, want: time.Minute, refreshEnds: 24 * time.Hour},
		{name: "Keycloak", fields: `"expires_in":300,"refresh_expires_in":1800`, want: 5 * time.Minute, refreshEnds: 30 * time.Minute,
			change: func(d *provider.Definition) {
				d.Response.RefreshEnds = []provider.Expiry{{Path: "x_refresh_token_expires_in|refresh_expires_in"}}
			}},
		{name: "a name with a dot", fields: `"odata.expires":"Wed, 02 Jan 2030 04:04:05 GMT"`, want: time.Hour,
			change: func(d *provider.Definition) {
				d.Response.Expires = []provider.Expiry{{Path: "token.expires|odata.expires", Form: provider.FormHTTPDate}}
			}},
		{name: "zero is forever (Mailchimp)", fields: `"expires_in":0,"refresh_token_expires_in":"0"`,
			change: func(d *provider.Definition) {
				d.AccessToken.ZeroIsForever, d.AccessToken.Lifetime, d.RefreshToken.IdleLifetime = true, oauth.Lifetime(time.Hour), oauth.Lifetime(time.Hour)
			}},
		{name: "dies with the access token, whatever is told", fields: `"expires_in":60,"refresh_token_expires_in":3600`, want: time.Minute, refreshEnds: time.Minute,
			change: func(d *provider.Definition) { d.RefreshToken.DiesWithAccessToken = true }},
		{name: "dies before the access token", fields: `"expires_in":60,"refresh_token_expires_in":30`, want: time.Minute, refreshEnds: time.Minute / 2,
			change: func(d *provider.Definition) { d.RefreshToken.DiesWithAccessToken = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := plain("https://acme.example")
			if tt.change != nil {
				tt.change(&d)
			}
			tokens, err := register(t, d).Read(answerOf(200, `{"access_token":"a","refresh_token":"r",`+tt.fields+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := readOf(t, tokens); got.expires != tt.want || got.refreshEnds != tt.refreshEnds {
				t.Errorf("%v and %v", got.expires, got.refreshEnds)
			}
		})
	}
}

// TestExpiryCanBeStored holds that no answer gives a time that JSON cannot write.
func TestExpiryCanBeStored(t *testing.T) {
	d := plain("https://acme.example")
	for _, form := range []string{"seconds", "milliseconds", "unix", "unix_ms", "rfc3339", "auto", "days_clock"} {
		d.Response.Expires = []provider.Expiry{{Path: "x", Form: form}}
		p := register(t, d)
		for _, value := range []string{`1e18`, `253402300800`, `3155760000`, `3153599999`, `"9999-12-31T23:59:59-12:00"`, `"65000:00:00"`} {
			tokens, err := p.Read(answerOf(200, `{"access_token":"a","x":`+value+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := json.Marshal(tokens.ExpiresAt); err != nil {
				t.Errorf("%s of %s: %v", form, value, err)
			}
		}
	}
}
