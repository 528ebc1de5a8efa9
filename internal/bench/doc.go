// Package bench measures authorization servers from outside, over HTTP on
// loopback: a closed-loop load generator that is cheap enough never to be the
// limit, the cost of the server's process while it runs, and the report.
//
// The generator writes HTTP/1.1 by hand over one keep-alive connection per
// virtual client. Each virtual client chains its own refresh token: a refresh
// sends the token that the answer before returned, so that a server which does
// not rotate, or forgets, is found out instead of measured.
package bench
