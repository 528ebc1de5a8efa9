package secret

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What a verifier of another server may cost, so that nobody who writes one into
// its database can stop this server: at most some seconds and 256 MiB.
const (
	maxBcryptCost  = 15
	maxIterations  = 5_000_000
	maxMessages    = 100_000     // iterations of Symfony's message digest, each over the whole password
	maxMessage     = 4096        // bytes of such a password; Symfony takes no longer one
	maxArgonMemory = 256 * 1024  // KiB
	maxArgonWork   = 1024 * 1024 // KiB times passes
	maxArgonLanes  = 64
)

// ForeignVerifier takes over what another server verifies a password or client
// secret with, so that nobody needs a new one. It knows
//
//	$2a$ $2b$ $2y$                  bcrypt
//	$argon2i$v=19$ $argon2id$v=19$  PHC strings, as PHP has them
//	pbkdf2_sha256$ pbkdf2_sha1$     Django
//	bcrypt_sha256$ bcrypt$ argon2$  Django
//	{sha1} {sha256} {sha512} {md5}  an unsalted digest, in hexadecimal
//	{symfony}ALGORITHM$ITERATIONS$SALT$DIGEST
//	                                Symfony's message digest, in base64: ITERATIONS times
//	                                sha1, sha256 or sha512 of password{salt}
//
// and this package's own forms. The error, which wraps ErrVerifierSyntax, names
// the form or the parameter that is too large, and shows nothing of the digest.
func ForeignVerifier(text string) (Verifier, error) {
	if _, _, err := Verifier(text).parse(); err == nil {
		return Verifier(text), nil
	}
	_, err := parseForeign(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrVerifierSyntax, err)
	}
	return Verifier(text), nil
}

// Foreign reports whether the verifier is one of another server, which is to be
// replaced by one of NewVerifier when its secret is presented.
func (v Verifier) Foreign() bool {
	if _, _, err := v.parse(); err == nil {
		return false
	}
	_, err := parseForeign(string(v))
	return err == nil
}

// check verifies a secret by another server's form.
type check func(secret string) bool

// foreignForms are the forms by what they begin with.
func foreignForms() map[string]func(rest string) (check, error) {
	return map[string]func(rest string) (check, error){
		"$2a$": parseBcrypt, "$2b$": parseBcrypt, "$2y$": parseBcrypt,
		"$argon2i$":      func(rest string) (check, error) { return parseArgon(rest, argon2.Key) },
		"$argon2id$":     func(rest string) (check, error) { return parseArgon(rest, argon2.IDKey) },
		"pbkdf2_sha256$": func(rest string) (check, error) { return parsePBKDF2(rest, sha256.New) },
		"pbkdf2_sha1$":   func(rest string) (check, error) { return parsePBKDF2(rest, sha1.New) },
		"bcrypt_sha256$": parseBcryptSHA256,
		"bcrypt$":        func(rest string) (check, error) { return parseWithin(rest, "$2") },
		"argon2$":        func(rest string) (check, error) { return parseWithin("$"+rest, "$argon2") },
		"{md5}":          func(rest string) (check, error) { return parseDigest(rest, md5.New) },
		"{sha1}":         func(rest string) (check, error) { return parseDigest(rest, sha1.New) },
		"{sha256}":       func(rest string) (check, error) { return parseDigest(rest, sha256.New) },
		"{sha512}":       func(rest string) (check, error) { return parseDigest(rest, sha512.New) },
		"{symfony}":      parseSymfony,
	}
}

// formStart is the part of a verifier that names its form.
var formStart = regexp.MustCompile(`^(\$[a-z0-9-]{1,16}\$|[a-z0-9_]{1,16}\$|\{[A-Za-z0-9-]{1,16}\})`)

// parseForeign finds out how another server's verifier is checked.
func parseForeign(text string) (check, error) {
	start := formStart.FindString(text)
	if parse := foreignForms()[start]; parse != nil {
		rest := text[len(start):]
		if start[:2] == "$2" {
			rest = text // the library reads it whole
		}
		check, err := parse(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", formName(start), err)
		}
		return check, nil
	}
	// What merely looks like the start of a form may be that of the secret itself.
	if start != "" && len(text) > 40 && (start[0] == '{' || strings.Count(text, "$") > 2) {
		return nil, fmt.Errorf("it begins with %s", start)
	}
	return nil, errors.New("it does not begin with the name of a form")
}

// formName is how Format and errors name a form.
func formName(start string) string {
	if strings.HasPrefix(start, "$2") {
		return "bcrypt"
	}
	return strings.Trim(start, "${}")
}

var bcryptForm = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

func parseBcrypt(text string) (check, error) {
	fields := bcryptForm.FindStringSubmatch(text)
	if fields == nil {
		return nil, errors.New("it is not of 60 characters, or has others than bcrypt's")
	}
	if cost, _ := strconv.Atoi(fields[1]); cost < bcrypt.MinCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("cost %d is not within %d to %d", cost, bcrypt.MinCost, maxBcryptCost)
	}
	return func(secret string) bool { return bcrypt.CompareHashAndPassword([]byte(text), []byte(secret)) == nil }, nil
}

// parseBcryptSHA256 reads Django's way around bcrypt's limit of 72 bytes: bcrypt
// of the hexadecimal SHA-256.
func parseBcryptSHA256(rest string) (check, error) {
	inner, err := parseWithin(rest, "$2")
	if err != nil {
		return nil, err
	}
	return func(secret string) bool {
		digest := sha256.Sum256([]byte(secret))
		return inner(hex.EncodeToString(digest[:]))
	}, nil
}

// parseWithin reads a form that Django has put its own name before.
func parseWithin(text, prefix string) (check, error) {
	if !strings.HasPrefix(text, prefix) {
		return nil, fmt.Errorf("there is no %s after its name", prefix)
	}
	return parseForeign(text)
}

var argonForms = regexp.MustCompile(`^v=19\$m=([0-9]{1,7}),t=([0-9]{1,4}),p=([0-9]{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

func parseArgon(rest string, key func(password, salt []byte, time, memory uint32, threads uint8, length uint32) []byte) (check, error) {
	fields := argonForms.FindStringSubmatch(rest)
	if fields == nil {
		return nil, errors.New("it is not v=19$m=,t=,p=$salt$digest")
	}
	memory, _ := strconv.Atoi(fields[1])
	passes, _ := strconv.Atoi(fields[2])
	lanes, _ := strconv.Atoi(fields[3])
	if memory > maxArgonMemory || memory*passes > maxArgonWork || lanes > maxArgonLanes {
		return nil, fmt.Errorf("m=%d,t=%d,p=%d is more than this server spends on a password", memory, passes, lanes)
	}
	if passes < 1 || lanes < 1 || memory < 8*lanes {
		return nil, fmt.Errorf("m=%d,t=%d,p=%d is less than RFC 9106 allows", memory, passes, lanes)
	}
	salt, err := base64.RawStdEncoding.Strict().DecodeString(fields[4])
	if err != nil || len(salt) < 8 || len(salt) > 128 {
		return nil, errors.New("its salt is not base64 of 8 to 128 bytes")
	}
	digest, err := base64.RawStdEncoding.Strict().DecodeString(fields[5])
	if err != nil || len(digest) < 16 || len(digest) > 128 {
		return nil, errors.New("its digest is not base64 of 16 to 128 bytes")
	}
	return func(secret string) bool {
		made := key([]byte(secret), salt, uint32(passes), uint32(memory), uint8(lanes), uint32(len(digest)))
		return subtle.ConstantTimeCompare(made, digest) == 1
	}, nil
}

func parsePBKDF2(rest string, h func() hash.Hash) (check, error) {
	fields := strings.Split(rest, "$")
	if len(fields) != 3 || fields[1] == "" {
		return nil, errors.New("it is not iterations$salt$digest")
	}
	iterations, err := parseIterations(fields[0], maxIterations)
	if err != nil {
		return nil, err
	}
	salt := []byte(fields[1])
	digest, err := decodeDigest(fields[2], h)
	if err != nil {
		return nil, err
	}
	return func(secret string) bool {
		made, err := pbkdf2.Key(h, secret, salt, iterations, len(digest))
		return err == nil && subtle.ConstantTimeCompare(made, digest) == 1
	}, nil
}

func parseIterations(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("its iterations are not 1 to %d", most)
	}
	return n, nil
}

func decodeDigest(text string, h func() hash.Hash) ([]byte, error) {
	digest, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(digest) != h().Size() {
		return nil, fmt.Errorf("its digest is not base64 of %d bytes", h().Size())
	}
	return digest, nil
}

func parseDigest(rest string, h func() hash.Hash) (check, error) {
	digest, err := hex.DecodeString(rest)
	if err != nil || len(digest) != h().Size() {
		return nil, fmt.Errorf("it is not of %d hexadecimal digits", 2*h().Size())
	}
	return func(secret string) bool {
		made := h()
		made.Write([]byte(secret))
		return subtle.ConstantTimeCompare(made.Sum(nil), digest) == 1
	}, nil
}

func parseSymfony(rest string) (check, error) {
	algorithm, rest, _ := strings.Cut(rest, "$")
	h := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}[algorithm]
	count, rest, _ := strings.Cut(rest, "$")
	end := strings.LastIndexByte(rest, '$')
	if h == nil || end < 0 {
		return nil, errors.New("it is not sha1, sha256 or sha512, and then $iterations$salt$digest")
	}
	iterations, err := parseIterations(count, maxMessages)
	if err != nil {
		return nil, err
	}
	salt := rest[:end]
	digest, err := decodeDigest(rest[end+1:], h)
	if err != nil {
		return nil, err
	}
	return func(secret string) bool {
		if len(secret) > maxMessage {
			return false
		}
		salted := secret
		if salt != "" {
			salted += "{" + salt + "}"
		}
		made := h()
		made.Write([]byte(salted))
		sum := made.Sum(nil)
		for range iterations - 1 {
			made.Reset()
			made.Write(sum)
			made.Write([]byte(salted))
			sum = made.Sum(sum[:0])
		}
		return subtle.ConstantTimeCompare(sum, digest) == 1
	}, nil
}
