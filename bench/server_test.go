package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// behaviour is the environment variable that turns the test program into the
// servers that the runner starts: a peer, or evergrant.
const behaviour = "EVERGRANT_BENCH_TEST_SERVER"

func TestMain(m *testing.M) {
	if how := os.Getenv(behaviour); how != "" {
		fmt.Fprintln(os.Stderr, actAsServer(how, os.Args[1:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// actAsServer understands the command lines of peers, -peer NAME -listen ADDR,
// of ours, serve --config FILE --data DIR --listen ADDR, and of Hydra.
func actAsServer(how string, args []string) error {
	switch {
	case how == "dies" || how == "no hydra" && slices.Contains(args, "sql"):
		return fmt.Errorf("I die")
	case args[0] == "migrate":
		os.Exit(0)
	case len(args) > 1 && args[1] == "all":
		return actAsHydra(how, args[len(args)-1])
	}
	if args[0] == "serve" {
		args = args[1:]
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.String("peer", "", "")
	flags.String("config", "", "")
	data := flags.String("data", "", "")
	listen := flags.String("listen", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *data != "" {
		if err := prepareData(*data); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, &example{how: how})
}

func prepareData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "example.db-wal"), make([]byte, 2_000_000), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "admin.token"), []byte("admin\n"), 0o600)
}

// example is an authorization server that issues tokens by counting. As
// "static" it does not rotate; as "grows" its storage grows.
type example struct {
	mu     sync.Mutex
	how    string
	issued int
	asked  int
}

func (e *example) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.URL.Path {
	case "/oauth/token", "/oauth2/token":
		e.issued++
		refresh := fmt.Sprint("r", e.issued)
		if e.how == "static" {
			refresh = "always the same"
		}
		fmt.Fprintf(w, `{"access_token":"a%d","refresh_token":%q}`, e.issued, refresh)
	case "/oauth/introspect":
		authorized := strings.HasPrefix(r.Header.Get("Authorization"), "B") // Basic or Bearer
		fmt.Fprintf(w, `{"active":%v}`, authorized && strings.HasPrefix(r.PostFormValue("token"), "a"))
	case "/v1/stats":
		if r.Header.Get("Authorization") != "Bearer admin" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if e.how == "grows" {
			e.asked++
		}
		fmt.Fprintf(w, `{"rows":{"grants":%d,"events":1},"database_bytes":%d}`, 10+e.asked, 4096*(1+e.asked))
	}
}
