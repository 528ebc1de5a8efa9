package bench

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command says how to start a server.
type Command struct {
	// Argv is the program and its arguments.
	Argv []string
	// Env is added to this process's environment.
	Env []string
	// Address is where the server will listen, "" where it prints its address
	// as the first line on its standard output.
	Address string
	// Log is the file that takes what the server prints.
	Log string
	// Ready says what is missing until the server is ready; nil is to ask for
	// GET /readyz.
	Ready func(context.Context) error
	// Signal asks the server to end; nil is SIGTERM.
	Signal os.Signal
	// Patience is how long the server may take to be ready, and to end before
	// it is killed; 30 s where it is 0.
	Patience time.Duration
}

// Server is a server in a process of its own.
type Server struct {
	// Address is its host and port.
	Address string
	// PID is its process id.
	PID int

	log      string
	signal   os.Signal
	patience time.Duration
	process  *os.Process
	ended    chan struct{} // closed when the process has ended
}

// Start starts the server and waits until it is ready. The server is killed when the context ends.
func Start(ctx context.Context, command Command) (*Server, error) {
	log, err := os.Create(command.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, command.Argv[0], command.Argv[1:]...)
	cmd.Env = append(os.Environ(), command.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	var printed io.Reader
	if command.Address == "" {
		cmd.Stdout = nil
		if printed, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{
		Address: command.Address, PID: cmd.Process.Pid,
		log: command.Log, process: cmd.Process, ended: make(chan struct{}),
		patience: cmp.Or(command.Patience, 30*time.Second), signal: command.Signal,
	}
	if s.signal == nil {
		s.signal = syscall.SIGTERM
	}
	address, addressErr := s.firstLine(printed)
	go func() {
		cmd.Wait() // the way it ended is told by what it printed
		close(s.ended)
	}()
	if addressErr == nil {
		s.Address = address
		if command.Ready == nil {
			command.Ready = func(ctx context.Context) error { return Ask(ctx, "http://"+s.Address+"/readyz") }
		}
		addressErr = s.ready(ctx, command.Ready)
	}
	if addressErr != nil {
		s.Stop()
		return nil, fmt.Errorf("%s did not start: %w%s", command.Argv[0], addressErr, s.lastWords())
	}
	return s, nil
}

// firstLine reads the address that the server prints, or answers the one that
// is known where there is nothing to read.
func (s *Server) firstLine(printed io.Reader) (string, error) {
	if printed == nil {
		return s.Address, nil
	}
	limit := time.AfterFunc(s.patience, func() { s.process.Kill() })
	defer limit.Stop()
	line, err := bufio.NewReader(printed).ReadString('\n')
	return strings.TrimSpace(line), err
}

// ready asks until the server says that it is.
func (s *Server) ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	last := errors.New("no answer")
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // else it tells only that the time is over
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", last)
		case <-s.ended:
			return errors.New("the process has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Ask sends GET and expects status 200.
func Ask(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", request.URL.Path, response.StatusCode)
	}
	return nil
}

// Stop asks the server to end, waits, and kills it where it does not.
func (s *Server) Stop() {
	if err := s.process.Signal(s.signal); err != nil {
		s.process.Kill() // where there are no signals
	}
	select {
	case <-s.ended:
	case <-time.After(s.patience):
		s.process.Kill()
		<-s.ended
	}
}

// lastWords answers the end of what the server printed, for an error message.
func (s *Server) lastWords() string {
	text, err := os.ReadFile(s.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}
