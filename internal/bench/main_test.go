package bench

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// behaviour is the environment variable that turns the test program into a
// server for the tests of processes.
const behaviour = "BENCH_TEST_SERVER"

func TestMain(m *testing.M) {
	if how := os.Getenv(behaviour); how != "" {
		actAsServer(how)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// actAsServer listens on the address that is the first argument and prints it.
func actAsServer(how string) {
	fmt.Fprintln(os.Stderr, "these are the last words")
	switch how {
	case "dies":
		return
	case "silent":
		time.Sleep(time.Minute)
		return
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(listener.Addr())
	begun := time.Now()
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if how == "never ready" || how == "slow" && time.Since(begun) < 50*time.Millisecond {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
}
