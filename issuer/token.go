package issuer

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Prefixes of tokens, so that people and secret scanners recognize them:
//
//	egc_[A-Za-z0-9_-]{88}   authorization code
//	egr_[A-Za-z0-9_-]{60}   refresh token
//	ega_[A-Za-z0-9_-]{60,}  opaque access token
const (
	CodePrefix    = "egc_"
	RefreshPrefix = "egr_"
	AccessPrefix  = "ega_"
)

// token64 is the encoding of tokens. It is strict, so that no two texts stand
// for one token.
var token64 = base64.RawURLEncoding.Strict()

// broken reports whether a token has line breaks, which base64 skips even where
// it is strict: what is left would be shorter than its text.
func broken(token string) bool { return strings.ContainsAny(token, "\r\n") }

// tokenRef is what a code or refresh token says: which generation of which
// grant it is, and which key made it. On the wire it is 24 bytes, big endian:
// key id (4), grant id (16), generation (4).
type tokenRef struct {
	keyID      uint32
	grant      GrantID
	generation uint32
}

const refSize = 24

func (t tokenRef) bytes() []byte {
	b := make([]byte, 0, refSize+2*secret.MACSize)
	b = binary.BigEndian.AppendUint32(b, t.keyID)
	b = append(b, t.grant[:]...)
	return binary.BigEndian.AppendUint32(b, t.generation)
}

func parseRef(b []byte) tokenRef {
	return tokenRef{
		keyID:      binary.BigEndian.Uint32(b),
		grant:      GrantID(b[4:20]),
		generation: binary.BigEndian.Uint32(b[20:refSize]),
	}
}

// refreshToken derives the refresh token of a generation: prefix, reference and
// MAC.
func refreshToken(key *secret.Key, grant GrantID, generation uint32) string {
	b := tokenRef{key.ID, grant, generation}.bytes()
	mac := key.MAC(secret.RefreshMAC, b)
	return RefreshPrefix + token64.EncodeToString(append(b, mac[:]...))
}

// parseRefreshToken verifies a refresh token's MAC, without a database. The
// error is a *Refusal with CauseTokenForged.
func (s *Server) parseRefreshToken(token string) (tokenRef, error) {
	b, key, err := s.parseToken(token, RefreshPrefix, refSize+secret.MACSize)
	if err != nil {
		return tokenRef{}, err
	}
	ref := parseRef(b)
	if !key.VerifyMAC(secret.RefreshMAC, b[:refSize], b[refSize:]) || ref.generation == 0 {
		return tokenRef{}, refuse(CauseTokenForged)
	}
	return ref, nil
}

// codeBinding is what a code is good for only together with (RFC 6749 section
// 4.1.3, RFC 7636 section 4.6): the challenge is "" where there was none. It goes
// into a second MAC of the code, so that none of it has to be stored and a request
// that lacks a part spends nothing.
type codeBinding struct{ clientID, redirectURI, challenge string }

// redirectMACSize is how much of the second MAC holds the redirect URI. The rest
// holds the challenge, so that it can be said which of them is wrong. Each is 80
// bits or more, for guesses that the server alone can answer.
const redirectMACSize = 10

func (c codeBinding) mac(key *secret.Key, ref []byte) (mac [secret.MACSize]byte) {
	for i, part := range []string{c.redirectURI, c.challenge} {
		b := append(append([]byte(nil), ref...), byte(i))
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.clientID)))
		b = append(append(b, c.clientID...), part...)
		sum := key.MAC(secret.CodeMAC, b)
		copy(mac[i*redirectMACSize:], sum[:])
	}
	return mac
}

// authorizationCode derives the code of a grant: prefix, reference, MAC of the
// reference, MAC of reference and binding.
func authorizationCode(key *secret.Key, grant GrantID, binding codeBinding) string {
	ref := tokenRef{key.ID, grant, 0}.bytes()
	own, bound := key.MAC(secret.CodeMAC, ref), binding.mac(key, ref)
	return CodePrefix + token64.EncodeToString(append(append(ref, own[:]...), bound[:]...))
}

// parseCode verifies a code's own MAC, without a database, and reports whether
// the binding is the one it was made for. The error is a *Refusal with
// CauseTokenForged.
func (s *Server) parseCode(code string, binding codeBinding) (tokenRef, bool, error) {
	ref, redirect, challenge, err := s.matchCode(code, binding)
	return ref, redirect && challenge, err
}

// matchCode is parseCode that says of the redirect URI and of the challenge apart
// whether the code was made for it.
func (s *Server) matchCode(code string, binding codeBinding) (ref tokenRef, redirect, challenge bool, err error) {
	b, key, err := s.parseToken(code, CodePrefix, refSize+2*secret.MACSize)
	if err != nil {
		return tokenRef{}, false, false, err
	}
	said, own, bound := b[:refSize], b[refSize:refSize+secret.MACSize], b[refSize+secret.MACSize:]
	if !key.VerifyMAC(secret.CodeMAC, said, own) || parseRef(said).generation != 0 {
		return tokenRef{}, false, false, refuse(CauseTokenForged)
	}
	want := binding.mac(key, said)
	redirect = constantTimeEqual(want[:redirectMACSize], bound[:redirectMACSize])
	challenge = constantTimeEqual(want[redirectMACSize:], bound[redirectMACSize:])
	return parseRef(said), redirect, challenge, nil
}

// parseToken decodes a token of a given prefix and size and finds its key.
func (s *Server) parseToken(token, prefix string, size int) ([]byte, *secret.Key, error) {
	encoded, ok := strings.CutPrefix(token, prefix)
	if !ok || len(encoded) != token64.EncodedLen(size) || broken(encoded) {
		return nil, nil, refuse(CauseTokenForged)
	}
	b, err := token64.DecodeString(encoded)
	if err != nil {
		return nil, nil, refuse(CauseTokenForged)
	}
	key, err := s.cfg.Keys.Key(binary.BigEndian.Uint32(b))
	if err != nil {
		return nil, nil, refuse(CauseTokenForged)
	}
	return b, key, nil
}

// answer derives the answer of a grant's current generation. The same row gives
// the same bytes, so that a retry is answered as the first request was; only
// the remaining lifetimes have shrunk. The key signs the access token.
func (s *Server) answer(g Grant, c *registered, scope oauth.Scope, key *secret.Key) (oauth.TokenResponse, error) {
	now := s.cfg.now()
	access, err := s.mintAccess(key, c.policy, accessClaims{
		Grant: g.ID, Generation: g.Generation, ClientID: g.ClientID, Subject: g.Subject,
		Scope: scope, IssuedAt: g.RotatedAt.Unix(), ExpiresAt: g.AccessExpiresAt.Unix(),
	})
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	response := oauth.TokenResponse{
		AccessToken: access,
		TokenType:   oauth.Bearer,
		ExpiresIn:   seconds(g.AccessExpiresAt.Sub(now)),
		Scope:       scope.String(),
		Subject:     g.Subject,
	}
	if !c.refreshes() || g.ended() {
		return response, nil
	}
	refreshKey := key
	if g.KeyID != 0 { // 0: of another server's token, which is taken as ours from now on
		if refreshKey, err = s.cfg.Keys.Key(g.KeyID); err != nil {
			return oauth.TokenResponse{}, err
		}
	}
	response.RefreshToken = refreshToken(refreshKey, g.ID, g.Generation)
	if !g.ExpiresAt.IsZero() {
		response.RefreshTokenExpiresIn = c.left(g.ExpiresAt.Sub(now))
	}
	if s.cfg.DraftExpiryNames {
		response.RefreshTokenTimeout = response.RefreshTokenExpiresIn
		if !g.EndsAt.IsZero() {
			response.AuthorizationExpiresIn = seconds(g.EndsAt.Sub(now))
		}
	}
	return response, nil
}

func keyName(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
