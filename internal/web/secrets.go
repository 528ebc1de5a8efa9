package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// newSecret are the members of a request that give a client a secret. It
// prints without the secret.
type newSecret struct {
	Secret   *secret.Text `json:"secret"` // in clear
	Generate bool         `json:"generate_secret"`
}

// make makes the secret, and its verifier, for a client that is public or not.
// The secret is returned where it was generated.
func (n newSecret) make(public bool) ([]secret.Verifier, secret.Text, error) {
	var none secret.Text
	switch {
	case public && (n.Secret != nil || n.Generate):
		return nil, none, badRequest("A public client has no secret.", `leave out "public", or "secret" and "generate_secret"`)
	case n.Secret != nil && n.Generate:
		return nil, none, badRequest(`Both "secret" and "generate_secret" are given.`, "choose one of them")
	case n.Generate:
		generated := secret.NewSecret()
		return []secret.Verifier{secret.NewVerifier(generated)}, generated, nil
	case n.Secret != nil:
		if err := checkSecret(n.Secret.Reveal()); err != nil {
			return nil, none, err
		}
		return []secret.Verifier{secret.NewVerifier(*n.Secret)}, none, nil
	}
	return nil, none, nil
}

// maxSecret bounds secrets and passwords in bytes.
const maxSecret = 1024

// checkSecret says whether a client secret has the characters that RFC 6749
// appendix A.2 allows.
func checkSecret(s string) error {
	bad := badRequest(fmt.Sprintf("A client secret has 1 to %d printable ASCII characters.", maxSecret), "")
	if s == "" || len(s) > maxSecret {
		return bad
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return bad
		}
	}
	return nil
}

// maxSecrets bounds how many secrets authenticate a client: each that a person
// chose costs an argon2id computation for a wrong one.
const maxSecrets = 3

// secretChange are the members of a patch that change a client's secrets.
type secretChange struct {
	newSecret
	KeepOld bool `json:"keep_old_secret"`
	counted bool // the patch sets "secrets": how many to keep
}

// cutSecretChange takes the members of a secret's change out of a patch.
func cutSecretChange(patch map[string]json.RawMessage) (secretChange, error) {
	_, counted := patch["secrets"]
	change := secretChange{counted: counted}
	members := map[string]json.RawMessage{}
	for _, name := range []string{"secret", "generate_secret", "keep_old_secret"} {
		if value, ok := patch[name]; ok {
			members[name] = value
			delete(patch, name)
		}
	}
	encoded, err := json.Marshal(members)
	if err != nil {
		return change, err
	}
	return change, unmarshal(encoded, &change)
}

// apply is the list of verifiers, newest first, that a client has after the
// change, whose document is patched already.
func (c secretChange) apply(old []secret.Verifier, patched clientDocument) ([]secret.Verifier, secret.Text, error) {
	made, generated, err := c.make(patched.Public)
	switch {
	case err != nil:
		return nil, generated, err
	case patched.Public:
		return nil, generated, nil
	case c.KeepOld && made == nil:
		return nil, generated, badRequest(`There is no new secret beside "keep_old_secret".`, `add "secret" or "generate_secret"`)
	case c.counted && made != nil:
		return nil, generated, badRequest(`Both a new secret and "secrets" are given.`, "send two requests")
	case c.counted && (patched.Secrets < 1 || patched.Secrets > len(old)):
		return nil, generated, badRequest(fmt.Sprintf(`"secrets" says how many to keep, the newest first: 1 to %d.`, len(old)), "")
	case c.counted:
		return old[:patched.Secrets], generated, nil
	case made == nil && len(old) == 0:
		return nil, generated, badRequest("A client that is not public needs a secret.", `add "secret" or "generate_secret"`)
	case made == nil:
		return old, generated, nil
	case c.KeepOld:
		made = append(made, old...)
	}
	if len(made) > maxSecrets {
		return nil, generated, badRequest(fmt.Sprintf("A client has at most %d secrets at once.", maxSecrets), `drop the oldest with "secrets": 1`)
	}
	return made, generated, nil
}

// mustBeFree refuses what was found under an id or name that is to be new.
func mustBeFree[T any](_ T, err error) error {
	switch {
	case err == nil:
		return refuse(http.StatusConflict, "It exists already.", "change it with PATCH, or choose another id")
	case errors.Is(err, issuer.ErrNotFound):
		return nil
	}
	return err
}
