package oauth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

func TestParseLifetime(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]struct {
		duration time.Duration
		printed  string
	}{
		"1h": {time.Hour, "1h"}, "60s": {time.Minute, "1m"}, "14d": {14 * day, "14d"}, "1d": {day, "1d"}, "1d12h": {36 * time.Hour, "1d12h"}, "36h": {36 * time.Hour, "1d12h"},
		"90m": {90 * time.Minute, "1h30m"}, "1h30m": {90 * time.Minute, "1h30m"}, "1h0m5s": {time.Hour + 5*time.Second, "1h0m5s"}, "500ms": {500 * time.Millisecond, "500ms"},
		"1.5h": {90 * time.Minute, "1h30m"}, "0": {-1, "0"}, "0s": {-1, "0"}, "0d": {-1, "0"}, "0d0h": {-1, "0"}, "10m": {10 * time.Minute, "10m"}, "100d1ms": {100*day + time.Millisecond, "100d1ms"},
		"365d": {365 * day, "365d"}, "0d1s": {time.Second, "1s"},
	} {
		got, err := oauth.ParseLifetime(text)
		if err != nil || time.Duration(got) != want.duration || got.String() != want.printed {
			t.Errorf("%q is %d printed as %q, %v; want %d, %q", text, got, got, err, want.duration, want.printed)
		}
	}
	for _, text := range []string{"", " ", "1", "60", "-1h", "+1h", "1d-1h", "1d+1h", "d", "h", "1x", "1d2d", "1h1d", "1.5d", "-1d", "1 h", "1h ", "١h", "1e3s", "0x1d", "1w", "never", "none",
		"99999999999d", "9999999d", "9999999999999h", "18446744073709551616d", "1dd", "∞", "1d1", "3000000h", "1us", "1ns", "1.5ms", "1d1us"} {
		if got, err := oauth.ParseLifetime(text); err == nil || !strings.Contains(err.Error(), "is not a duration") {
			t.Errorf("%q is read as %s, %v", text, got, err)
		}
	}
}

// TestLifetimesInDocuments: the zero value is left out, an explicit nothing is
// not.
