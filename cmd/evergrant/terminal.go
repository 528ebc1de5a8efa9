package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// terminal returns the file descriptor of a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	file, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), getTermios)
	return int(file.Fd()), err == nil
}

// progress shows a line that overwrites the last one, on a terminal only.
func (in *invocation) progress(format string, args ...any) {
	if _, ok := terminal(in.stderr); ok {
		fmt.Fprintf(in.stderr, "\r\x1b[K"+format, args...)
	}
}

// readSecret reads a secret from a pipe (stdin true), or asks for it twice on a
// terminal, without echo. name is the word for it; flag is the one that reads
// from a pipe.
func (in *invocation) readSecret(cmd *cobra.Command, name, flag string, stdin bool) (secret.Text, error) {
	if stdin {
		return in.pipedSecret(cmd, name)
	}
	fd, ok := terminal(in.stdin)
	if !ok {
		return secret.Text{}, &failure{exitUsage, "no terminal to ask for the " + name, "send it with --" + flag + ", such as `... --" + flag + " < FILE`"}
	}
	return in.askSecret(cmd, name, fd)
}

// askSecret asks on a terminal.
func (in *invocation) askSecret(cmd *cobra.Command, name string, fd int) (secret.Text, error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return secret.Text{}, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &hidden); err != nil {
		return secret.Text{}, err
	}
	defer unix.IoctlSetTermios(fd, setTermios, before)

	// A read from a terminal cannot be broken off, so that an interrupt leaves it
	// behind for the end of the process.
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 2)
	go func() {
		lines := bufio.NewReader(in.stdin)
		for range 2 {
			text, err := lines.ReadString('\n')
			answers <- answer{text, err}
		}
	}()
	var texts [2]string
	for i, prompt := range []string{name + ": ", "again: "} {
		fmt.Fprint(in.stderr, prompt)
		select {
		case a := <-answers:
			if fmt.Fprintln(in.stderr); a.err != nil {
				return secret.Text{}, a.err
			}
			texts[i] = a.text
		case <-cmd.Context().Done():
			return secret.Text{}, cmd.Context().Err()
		}
	}
	if texts[0] != texts[1] {
		return secret.Text{}, &failure{what: "the two answers differ", next: "run the command again"}
	}
	return oneLine(cmd, name, texts[0])
}

// pipedSecret reads a secret of one line from stdin.
func (in *invocation) pipedSecret(cmd *cobra.Command, name string) (secret.Text, error) {
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(in.stdin, most+1))
	if err != nil {
		return secret.Text{}, err
	}
	if len(text) > most {
		return secret.Text{}, usage(cmd, "the "+name+" on stdin is longer than 64 KiB")
	}
	return oneLine(cmd, name, string(text))
}

func oneLine(cmd *cobra.Command, name, text string) (secret.Text, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return secret.Text{}, usage(cmd, "the "+name+" must be one line that is not empty")
	}
	return secret.NewText(text), nil
}
