package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal: keys are typed into one end, and a program has
// the other one. What appears on it is recorded.
func openTerminal(t *testing.T) (keyboard, program *os.File, screen *record) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	screen = &record{}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			screen.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return keyboard, program, screen
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, program *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(program.Fd()), getTermios)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestPasswordPrompt(t *testing.T) {
	s := start(t, t.TempDir(), "")
	for _, test := range []struct {
		name, typed string
		code        int
		want        string // on the screen
	}{
		{"ann", "correct horse\ncorrect horse\n", exitDone, ""},
		{"bob", "correct horse\nbattery staple\n", exitFailed, "the two answers differ"},
		{"cat", "\n\n", exitUsage, "the password must be one line that is not empty"},
		{"dan", "\x04\x04", exitFailed, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keyboard, tty, screen := openTerminal(t)
			done := make(chan int, 1)
			var out bytes.Buffer
			go func() {
				args := []string{"user", "create", test.name, "--server", s.url, "--data", s.dir}
				done <- program{env: environment(), now: time.Now}.Run(t.Context(), args, tty, &out, tty)
			}()
			eventually(t, func() bool { return strings.Contains(screen.String(), "password: ") && !echoes(t, tty) })
			keyboard.WriteString(test.typed)
			if code := <-done; code != test.code {
				t.Errorf("status %d, want %d: %q", code, test.code, screen)
			}
			eventually(t, func() bool { return strings.Contains(screen.String(), test.want) })
			if strings.Contains(screen.String(), "horse") {
				t.Errorf("the password appeared: %q", screen)
			}
			if !echoes(t, tty) {
				t.Error("the terminal stays without echo")
			}
		})
	}
	if users := s.ok("user", "list"); !strings.Contains(users, "ann") || strings.Contains(users, "bob") {
		t.Errorf("users are\n%s", users)
	}
}

func TestPasswordPromptInterrupted(t *testing.T) {
	_, tty, screen := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		var out bytes.Buffer
		args := []string{"user", "create", "ann", "--token", "t"}
		done <- program{env: environment(), now: time.Now}.Run(ctx, args, tty, &out, tty)
	}()
	eventually(t, func() bool { return strings.Contains(screen.String(), "password: ") })
	cancel()
	if code := <-done; code != exitFailed {
		t.Errorf("status %d", code)
	}
	if !echoes(t, tty) {
		t.Error("the terminal stays without echo")
	}
}

// TestProgress has progress on a terminal; in a pipe there is none, as
// TestBackup shows by its exact messages.
func TestProgress(t *testing.T) {
	s := start(t, t.TempDir(), seeds)
	_, tty, screen := openTerminal(t)
	var out bytes.Buffer
	args := []string{"backup", filepath.Join(t.TempDir(), "backup.db"), "--server", s.url, "--data", s.dir}
	if code := (program{env: environment(), now: time.Now}).Run(t.Context(), args, strings.NewReader(""), &out, tty); code != exitDone {
		t.Errorf("status %d: %q", code, screen)
	}
	eventually(t, func() bool { return strings.Contains(screen.String(), "\r\x1b[K0 MiB\r\x1b[Kthe root key") })
}
