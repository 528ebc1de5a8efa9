package main

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// TestLiveOnTerminal has a terminal show the renewals on a line of their own.
func TestLiveOnTerminal(t *testing.T) {
	_, console, screen := openTerminal(t)
	in := &invocation{program: program{env: environment("NO_COLOR", "1"), now: time.Now}, stdout: console}
	touring := in.newTour("http://127.0.0.1:1", secret.NewText("token"), "", nil)
	touring.out.live("3 renewals of 2 connections")
	touring.out.prose("What comes next.")
	for !strings.Contains(screen.String(), "next.") {
		time.Sleep(time.Millisecond)
	}
	if want := "  3 renewals of 2 connections\r\x1b[K  What comes next.\r\n"; screen.String() != want {
		t.Errorf("the screen has %q", screen)
	}
}
