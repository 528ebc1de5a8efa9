package providertest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/providertest"
)

func TestListen(t *testing.T) {
	url, stop := providertest.Listen(providertest.New(providertest.Plain(), providertest.Options{}))
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("the URL is %s", url)
	}
	get := func() (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+providertest.MePath, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	if status, err := get(); status != 401 || err != nil {
		t.Errorf("answered %d, %v", status, err)
	}
	stop()
	if _, err := get(); err == nil {
		t.Error("it answers after stop")
	}
	stop() // twice does no harm
}

// TestPipe runs a simulator with the clock of a synctest bubble: hours of latency
// and of life pass at once.
func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := providertest.New(providertest.Plain(), providertest.Options{})
		dial, stop := providertest.Pipe(sim)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
		_, tokens := sim.Connect("alice")
		sim.Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{Latency: 50 * time.Minute}})
		started := time.Now()
		resp, err := client.Post("http://192.0.2.1/token", oauth.FormType, strings.NewReader(form(
			"client_id", "sim-client", "client_secret", "sim-secret", "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken.Reveal())))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || time.Since(started) != 50*time.Minute {
			t.Errorf("answered %d %s after %s, %v", resp.StatusCode, body, time.Since(started), err)
		}
		time.Sleep(10 * time.Minute)
		if sim.Alive(tokens.AccessToken.Reveal()) {
			t.Error("the first access token is alive after an hour")
		}
		stop()
		if _, err := client.Get("http://192.0.2.1/"); err == nil {
			t.Error("it answers after stop")
		}
	})
}

// TestPipeDial is a connection that nobody accepts.
func TestPipeDial(t *testing.T) {
	dial, stop := providertest.Pipe(http.NotFoundHandler())
	stop()
	var failed *net.OpError
	if _, err := dial(t.Context(), "tcp", "192.0.2.1:80"); !errors.As(err, &failed) || failed.Op != "dial" {
		t.Errorf("after stop: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		dial, stop := providertest.Pipe(http.NotFoundHandler())
		defer stop()
		conn, err := dial(t.Context(), "tcp", "192.0.2.1:80")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // of a listener that is ready and a context that is over, either may win
			if conn, err := dial(ended, "tcp", ""); err == nil {
				conn.Close()
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("with an ended context: %v", err)
			}
		}
	})
}
