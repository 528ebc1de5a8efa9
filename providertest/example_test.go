package providertest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/providertest"
)

// A refresh token for single use is consumed, its answer is lost, and whoever
// sends it again loses the grant.
func Example() {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sim := providertest.New(providertest.Eventix(), providertest.Options{Now: func() time.Time { return at }})
	base, stop := providertest.Listen(sim)
	defer stop()

	grant, tokens := sim.Connect("alice")
	sim.Inject(providertest.Rule{Times: 1, Fault: providertest.DropAfter()})
	for range 2 {
		resp, err := http.PostForm(base+providertest.TokenPath, url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken.Reveal()}, "client_id": {"sim-client"}, "client_secret": {"sim-secret"},
		})
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	for _, line := range sim.History(grant) {
		fmt.Println(line)
	}
	// Output:
	// no answer
	// 400 Bad Request
	// 2026-01-02 03:04:05.000 begun for alice
	// 2026-01-02 03:04:05.000 generation 1 issued
	// 2026-01-02 03:04:05.000 generation 2 issued for the tokens of generation 1
	// 2026-01-02 03:04:05.000 refresh token of generation 1 came again, 0s after it was consumed
	// 2026-01-02 03:04:05.000 killed: the refresh token of generation 1 was used twice
}
