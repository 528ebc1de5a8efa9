package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// sendAndCut sends a request over a connection that is cut as soon as the
// server has answered whole, so that the client sees no byte of it. It returns
// the lost exchange, and what the client saw instead. The error says that the
// answer was not lost.
func sendAndCut(timeout time.Duration, req *http.Request) (lost exchange, seen string, err error) {
	answers := make(chan exchange, 1)
	var dialer net.Dialer
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &cutConn{conn, answers}, nil
		},
	}
	defer transport.CloseIdleConnections()
	e, err := send(&http.Client{Transport: transport, Timeout: timeout}, req)
	if err == nil {
		return e, "the whole answer", errors.New("the client was answered through a connection that should have been cut")
	}
	seen = err.Error()
	select {
	case lost = <-answers:
		lost.curl = e.curl
		return lost, seen, nil
	default:
		return e, seen, errors.New("the server gave no answer that could be lost: " + seen)
	}
}

// cutConn is a connection whose client never reads a byte: what the server
// answers goes elsewhere, and then the connection is closed.
type cutConn struct {
	net.Conn
	answers chan<- exchange
}

// Read waits for the whole answer and reports the end of the connection.
func (c *cutConn) Read([]byte) (int, error) {
	defer c.Conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(c.Conn), nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody))
	if err != nil {
		return 0, err
	}
	c.answers <- exchange{status: resp.StatusCode, header: resp.Header, body: body}
	return 0, io.EOF
}
