// Command evergrant serves, administers and explains OAuth 2 grants: it is the
// binary of the module. `evergrant help` lists what it does, and
// docs/COMMANDS.md describes it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := program{env: os.LookupEnv, now: time.Now}
	os.Exit(p.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
