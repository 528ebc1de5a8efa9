package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// connectionAddress is the network address at the other end of the connection,
// without port.
func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// proxiedAddress is the address that the proxy before this server names: the
// last one of X-Forwarded-For, or of Forwarded (RFC 7239). Earlier ones are what
// the proxy was told and anybody can make up. A request with both headers has
// one from the proxy and one from a stranger; as there is no telling which, it
// counts as the proxy's own.
func proxiedAddress(r *http.Request) string {
	var named string
	forwardedFor, forwarded := r.Header.Values("X-Forwarded-For"), r.Header.Values("Forwarded")
	switch {
	case len(forwardedFor) > 0 && len(forwarded) > 0:
	case len(forwardedFor) > 0:
		last := forwardedFor[len(forwardedFor)-1]
		named = last[strings.LastIndexByte(last, ',')+1:]
	case len(forwarded) > 0:
		named = lastForwarded(forwarded[len(forwarded)-1])
	}
	if addr, ok := parseAddress(strings.TrimSpace(named)); ok {
		return addr
	}
	return connectionAddress(r)
}

// lastForwarded is the for parameter of the last element of a Forwarded header
// value, without quotes; "" where there is none.
func lastForwarded(header string) string {
	value := ""
	for rest, more := header, true; more; {
		var parameter string
		var separator byte
		parameter, separator, rest = cutParameter(rest)
		name, given, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			value = strings.Trim(strings.TrimSpace(given), `"`)
		}
		if separator == ',' {
			value = ""
		}
		more = separator != 0
	}
	return value
}

// cutParameter cuts a header value at its first comma or semicolon that is not
// in quotes; the separator is 0 at the end.
func cutParameter(s string) (parameter string, separator byte, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ';'):
			return s[:i], c, s[i+1:]
		}
	}
	return s, 0, ""
}

// parseAddress reads an IP address that may have brackets and a port.
func parseAddress(s string) (string, bool) {
	if withPort, err := netip.ParseAddrPort(s); err == nil {
		return withPort.Addr().Unmap().String(), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap().String(), err == nil
}
