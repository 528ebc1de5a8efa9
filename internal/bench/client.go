package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// pause is the wait after a connection was lost, so that a dead server does
// not make the generator spin.
const pause = 10 * time.Millisecond

var (
	errNotRotated = errors.New("the answer's refresh token is the one that was sent")
	errNoRefresh  = errors.New("the answer has no refresh_token")
	errNoAccess   = errors.New("the answer has no access_token")
	errInactive   = errors.New("the token is not active")
)

// client is one virtual client: a connection, its own tokens, and what it saw
// in the present run.
type client struct {
	address string
	mode    Mode
	head    []byte   // of every request, up to the value of Content-Length
	form    []byte   // of every request, up to the token
	token   []byte   // the one whose turn it is, as it stands in a form body
	others  [][]byte // those that come before it again, in the order of their turns

	mu          sync.Mutex // held to change conn, and by others to read it
	conn        net.Conn   // nil while not connected
	in          reader
	out         []byte
	interrupted atomic.Bool

	latencies []time.Duration
	errors    int
	failure   error
}

func newClient(load Load, address string) *client {
	c := &client{address: address, mode: load.Mode}
	path, form := cmp.Or(load.Path, "/oauth/token"), ""
	switch load.Mode {
	case Refresh, Echo:
		form = "grant_type=refresh_token"
	case Introspect:
		path = cmp.Or(load.Path, "/oauth/introspect")
	case ClientCredentials:
		form = "grant_type=client_credentials"
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: " + address + "\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	if load.Authorization != "" {
		head += "Authorization: " + load.Authorization + "\r\n"
	} else {
		form = join(form, "client_id="+string(appendEscaped(nil, []byte(load.ClientID))))
	}
	switch load.Mode {
	case Refresh, Echo:
		form = join(form, "refresh_token=")
	case Introspect:
		form = join(form, "token=")
	}
	c.head, c.form = []byte(head+"Content-Length: "), []byte(form)
	return c
}

// take gives the client the tokens that it uses in turn.
func (c *client) take(tokens []string) {
	for i, token := range tokens {
		escaped := appendEscaped(nil, []byte(token))
		if i == 0 {
			c.token = escaped
		} else {
			c.others = append(c.others, escaped)
		}
	}
}

// turn makes the next token the one to be used. It moves slices' heads and
// not their bytes.
func (c *client) turn() {
	if n := len(c.others); n > 0 {
		next := c.others[0]
		copy(c.others, c.others[1:])
		c.others[n-1] = c.token
		c.token = next
	}
}

func join(form, parameter string) string {
	if form == "" {
		return parameter
	}
	return form + "&" + parameter
}

func (c *client) dial(ctx context.Context) error {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.in = reader{src: conn, buf: c.in.buf[:0], chunks: c.in.chunks}
	return nil
}

// loop sends requests until the time has come. The deadline of the connection
// is set once and not for each request, because that costs a lock and a timer.
func (c *client) loop(ctx context.Context, stop time.Time, patience time.Duration) {
	c.latencies, c.errors, c.failure = c.latencies[:0], 0, nil
	deadline := stop.Add(patience)
	c.arm(deadline)
	for now := time.Now(); now.Before(stop) && !c.interrupted.Load(); {
		err := c.exchange()
		after := time.Now()
		c.turn()
		if err == nil {
			c.latencies = append(c.latencies, after.Sub(now))
		} else if !c.interrupted.Load() {
			c.fail(err)
		}
		if c.conn == nil {
			c.redial(ctx, deadline)
			after = time.Now()
		}
		now = after
	}
}

// redial opens a new connection, or waits a little where that fails.
func (c *client) redial(ctx context.Context, deadline time.Time) {
	if c.interrupted.Load() {
		return
	}
	if err := c.dial(ctx); err != nil {
		time.Sleep(pause)
		return
	}
	c.arm(deadline)
}

// arm sets the connection's deadline, unless the run has been interrupted: it
// looks after setting, and interrupt sets after saying so, so that neither can
// miss the other.
func (c *client) arm(deadline time.Time) {
	if c.conn == nil {
		return
	}
	c.conn.SetDeadline(deadline)
	if c.interrupted.Load() {
		c.conn.SetDeadline(past())
	}
}

// past is a deadline that ends a call at once.
func past() time.Time { return time.Unix(1, 0) }

func (c *client) fail(err error) {
	c.errors++
	if c.failure == nil {
		c.failure = err
	}
}

// exchange sends one request and checks the answer.
func (c *client) exchange() error {
	if c.conn == nil {
		return errors.New("not connected")
	}
	c.out = append(c.out[:0], c.head...)
	c.out = strconv.AppendInt(c.out, int64(len(c.form)+len(c.token)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, c.form...)
	c.out = append(c.out, c.token...)
	if _, err := c.conn.Write(c.out); err != nil {
		c.close()
		return err
	}
	answer, err := c.in.read()
	if err != nil {
		c.close()
		return err
	}
	if answer.close {
		c.close()
	}
	return c.check(answer)
}

// check holds the answer against what the mode expects, and takes over the new
// refresh token.
func (c *client) check(answer response) error {
	if answer.status != 200 {
		if code := stringField(answer.body, `"error"`); code != nil {
			return fmt.Errorf("status %d: %s", answer.status, code)
		}
		return fmt.Errorf("status %d", answer.status)
	}
	switch c.mode {
	case Refresh:
		return c.rotate(answer.body)
	case Introspect:
		if !bytes.Contains(answer.body, []byte(`"active":true`)) && !bytes.Contains(answer.body, []byte(`"active": true`)) {
			return errInactive
		}
	case ClientCredentials:
		if stringField(answer.body, `"access_token"`) == nil {
			return errNoAccess
		}
	}
	return nil
}

func (c *client) rotate(body []byte) error {
	next := stringField(body, `"refresh_token"`)
	if next == nil {
		return errNoRefresh
	}
	sent := len(c.out) - len(c.token) // the request ends with the token that was sent
	c.token = appendEscaped(c.token[:0], next)
	if bytes.Equal(c.token, c.out[sent:]) {
		return errNotRotated
	}
	return nil
}

// interrupt makes a running loop end now.
func (c *client) interrupt() {
	c.interrupted.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.SetDeadline(past())
	}
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// appendEscaped writes a value as it stands in a form body: all but the
// unreserved characters of RFC 3986 as %XX.
func appendEscaped(to, value []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, b := range value {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '.', b == '_', b == '~':
			to = append(to, b)
		default:
			to = append(to, '%', hex[b>>4], hex[b&15])
		}
	}
	return to
}
