package issuer

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// accessClaims are what an access token says, in either format. Times are
// seconds since the epoch. Generation 0 means that no grant row stands behind
// it (client_credentials); Grant is then a random number.
type accessClaims struct {
	Grant      GrantID
	Generation uint32
	ClientID   string
	Subject    string
	Scope      oauth.Scope
	IssuedAt   int64
	ExpiresAt  int64
	ID         string // jti; set by minting and opening
}

// jwtClaims is the payload of a JWT access token (RFC 9068 section 2.2).
type jwtClaims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"`
	ID        string `json:"jti"`
	ClientID  string `json:"client_id"`
	Scope     string `json:"scope,omitempty"`
}

// jwtType is the typ of JWT access tokens (RFC 9068 section 2.1).
const jwtType = "at+jwt"

// errNotOurs says that a text is no valid access token of this server.
var errNotOurs = errors.New("issuer: not an access token of this server")

// mintAccess makes an access token. It is deterministic: equal input gives
// equal bytes.
func (s *Server) mintAccess(key *secret.Key, policy Policy, claims accessClaims) (string, error) {
	if policy.Format == FormatOpaque {
		sealed := key.Seal(secret.AccessSeal, claims.marshal(), nil)
		b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(sealed)), key.ID)
		return AccessPrefix + token64.EncodeToString(append(b, sealed...)), nil
	}
	signer, err := key.Signer(policy.SigningAlg)
	if errors.Is(err, secret.ErrNoSigningKey) { // the algorithm was changed after this key was made
		key = s.cfg.Keys.Current()
		signer, err = key.Signer(policy.SigningAlg)
	}
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(jwtClaims{
		Issuer: s.cfg.Issuer, Subject: claims.Subject, Audience: s.cfg.Issuer,
		ExpiresAt: claims.ExpiresAt, IssuedAt: claims.IssuedAt,
		ID:       sealAccessID(key, claims),
		ClientID: claims.ClientID, Scope: claims.Scope.String(),
	})
	if err != nil {
		return "", err
	}
	return compactJWS(signer, payload)
}

// compactJWS is the compact serialization (RFC 7515 section 7.1). go-jose
// makes the same, but from a header that it marshals anew for every token.
func compactJWS(signer *secret.Signer, payload []byte) (string, error) {
	header := `{"alg":"` + string(signer.Algorithm) + `","typ":"` + jwtType + `","kid":"` + signer.KeyID + `"}`
	enc := base64.RawURLEncoding
	b := make([]byte, 0, enc.EncodedLen(len(header))+enc.EncodedLen(len(payload))+enc.EncodedLen(64)+2)
	b = enc.AppendEncode(b, []byte(header))
	b = append(b, '.')
	b = enc.AppendEncode(b, payload)
	signature, err := signer.Sign(b)
	if err != nil {
		return "", err
	}
	b = append(b, '.')
	return string(enc.AppendEncode(b, signature)), nil
}

// sealAccessID makes the jti of a JWT: grant and generation, sealed, so that it
// is unique for each distinct token, the same for the same token, and tells
// third parties nothing.
func sealAccessID(key *secret.Key, claims accessClaims) string {
	plain := tokenRef{key.ID, claims.Grant, claims.Generation}.bytes()[4:]
	return token64.EncodeToString(key.Seal(secret.AccessID, plain, claims.idContext()))
}

// idContext is what a jti is bound to besides grant and generation.
func (c accessClaims) idContext() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(c.IssuedAt)), c.Scope.String()...)
}

// openAccess verifies an access token in either format, without a database:
// form, MAC or signature, issuer, and expiry at a time. The error is
// errNotOurs.
func (s *Server) openAccess(token string, now time.Time) (accessClaims, error) {
	claims, err := accessClaims{}, errNotOurs
	switch {
	case broken(token):
	case strings.HasPrefix(token, AccessPrefix):
		claims, err = s.openOpaque(token)
	default:
		claims, err = s.openJWT(token)
	}
	if err != nil || now.Unix() >= claims.ExpiresAt {
		return accessClaims{}, errNotOurs
	}
	return claims, nil
}

func (s *Server) openOpaque(token string) (accessClaims, error) {
	b, err := token64.DecodeString(strings.TrimPrefix(token, AccessPrefix))
	if err != nil || len(b) < 4 {
		return accessClaims{}, errNotOurs
	}
	key, err := s.cfg.Keys.Key(binary.BigEndian.Uint32(b))
	if err != nil {
		return accessClaims{}, errNotOurs
	}
	plain, err := key.Open(secret.AccessSeal, b[4:], nil)
	if err != nil {
		return accessClaims{}, errNotOurs
	}
	claims, err := unmarshalClaims(plain)
	claims.ID = token64.EncodeToString(b[4:16]) // the nonce, which is a MAC of the claims
	return claims, err
}

func (s *Server) openJWT(token string) (accessClaims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256})
	if err != nil || len(parsed.Headers) != 1 {
		return accessClaims{}, errNotOurs
	}
	header := parsed.Headers[0]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != jwtType {
		return accessClaims{}, errNotOurs
	}
	key, signer := s.signerOf(header.KeyID)
	if signer == nil || string(signer.Algorithm) != header.Algorithm {
		return accessClaims{}, errNotOurs
	}
	var payload jwtClaims
	if err := parsed.Claims(signer.Public, &payload); err != nil || payload.Issuer != s.cfg.Issuer {
		return accessClaims{}, errNotOurs
	}
	scope, err := oauth.ParseScope(payload.Scope)
	if err != nil {
		return accessClaims{}, errNotOurs
	}
	claims := accessClaims{
		ClientID: payload.ClientID, Subject: payload.Subject, Scope: scope,
		IssuedAt: payload.IssuedAt, ExpiresAt: payload.ExpiresAt, ID: payload.ID,
	}
	sealed, err := token64.DecodeString(payload.ID)
	if err != nil {
		return accessClaims{}, errNotOurs
	}
	plain, err := key.Open(secret.AccessID, sealed, claims.idContext())
	if err != nil || len(plain) != refSize-4 {
		return accessClaims{}, errNotOurs
	}
	ref := parseRef(append(make([]byte, 4, refSize), plain...))
	claims.Grant, claims.Generation = ref.grant, ref.generation
	return claims, nil
}

// signerOf finds the signing key with a kid. The one after the newest may have
// been made at another server a moment ago, to be used at once: it is derived.
func (s *Server) signerOf(kid string) (*secret.Key, *secret.Signer) {
	keys := s.cfg.Keys.Keys()
	if next, err := s.cfg.Keys.Key(keys[len(keys)-1].ID + 1); err == nil {
		keys = append(keys, next)
	}
	for _, key := range keys {
		for _, signer := range key.Signers() {
			if signer.KeyID == kid {
				return key, signer
			}
		}
	}
	return nil, nil
}

// marshal is the plaintext of an opaque token: grant id (16 bytes), generation
// (4), then as varints issue time and lifetime, then client, subject and scope,
// each after its length.
func (c accessClaims) marshal() []byte {
	b := tokenRef{0, c.Grant, c.Generation}.bytes()[4:]
	b = binary.AppendUvarint(b, uint64(c.IssuedAt))
	b = binary.AppendUvarint(b, uint64(c.ExpiresAt))
	for _, text := range []string{c.ClientID, c.Subject, c.Scope.String()} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

// unmarshalClaims reverses marshal.
func unmarshalClaims(b []byte) (accessClaims, error) {
	if len(b) < refSize-4 {
		return accessClaims{}, errNotOurs
	}
	ref := parseRef(append(make([]byte, 4, refSize), b[:refSize-4]...))
	b = b[refSize-4:]
	var numbers [2]uint64
	for i := range numbers {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return accessClaims{}, errNotOurs
		}
		numbers[i], b = n, b[size:]
	}
	var texts [3]string
	for i := range texts {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return accessClaims{}, errNotOurs
		}
		texts[i], b = string(b[size:size+int(n)]), b[size+int(n):]
	}
	scope, err := oauth.ParseScope(texts[2])
	if err != nil || len(b) != 0 {
		return accessClaims{}, errNotOurs
	}
	return accessClaims{
		Grant: ref.grant, Generation: ref.generation,
		IssuedAt: int64(numbers[0]), ExpiresAt: int64(numbers[1]),
		ClientID: texts[0], Subject: texts[1], Scope: scope,
	}, nil
}

func constantTimeEqual(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// seconds is a remaining lifetime as an answer tells it: what was issued a
// moment ago has its whole lifetime left, and nothing has less than 0.
func seconds(d time.Duration) int64 { return max(0, int64((d+time.Second-1)/time.Second)) }
