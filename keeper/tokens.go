package keeper

import (
	"encoding/json"
	"fmt"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// held are the tokens of a connection in clear.
type held struct {
	AccessToken  secret.Text
	RefreshToken secret.Text            // empty where there is none
	Extra        map[string]secret.Text // further access tokens, by name
	// Spent says that a refresh has used the refresh token and brought no other:
	// whether it can be used again, only the provider knows.
	Spent bool
}

// heldDocument is the plaintext of Connection.Tokens.
type heldDocument struct {
	Access  string            `json:"a,omitempty"`
	Refresh string            `json:"r,omitempty"`
	Extra   map[string]string `json:"x,omitempty"`
	Spent   bool              `json:"s,omitempty"`
}

// tokensOf and answerOf name the row that something is sealed for, so that it
// opens for no other.
func tokensOf(id string) []byte { return []byte("connection/" + id) }

func answerOf(id, requestID string) []byte { return []byte("answer/" + id + "/" + requestID) }

func (k *Keeper) sealTokens(c *Connection, h held) {
	document := heldDocument{Access: h.AccessToken.Reveal(), Refresh: h.RefreshToken.Reveal(), Spent: h.Spent}
	for name, token := range h.Extra {
		if document.Extra == nil {
			document.Extra = map[string]string{}
		}
		document.Extra[name] = token.Reveal()
	}
	plaintext, _ := json.Marshal(document) // strings only
	c.Tokens = k.cfg.Keys.Seal(secret.TokenSeal, plaintext, tokensOf(c.ID))
}

// openTokens gives the tokens of a connection; none where it has none yet.
func (k *Keeper) openTokens(c Connection) (held, error) {
	if c.Tokens.Empty() {
		return held{}, nil
	}
	plaintext, err := k.cfg.Keys.Open(secret.TokenSeal, c.Tokens, tokensOf(c.ID))
	if err != nil {
		return held{}, fmt.Errorf("tokens of connection %s: %w", c.ID, err)
	}
	var document heldDocument
	if err := json.Unmarshal(plaintext, &document); err != nil {
		return held{}, fmt.Errorf("tokens of connection %s are not what was sealed: %w", c.ID, secret.ErrSealed)
	}
	h := held{AccessToken: secret.NewText(document.Access), RefreshToken: secret.NewText(document.Refresh), Spent: document.Spent}
	for name, token := range document.Extra {
		if h.Extra == nil {
			h.Extra = map[string]secret.Text{}
		}
		h.Extra[name] = secret.NewText(token)
	}
	return h, nil
}

// journaled is an answer in the journal. With that to an exchange goes what the
// redirect told, which nobody tells a second time.
type journaled struct {
	provider.Answer
	Params   map[string]string `json:"params,omitempty"`
	Metadata map[string]any    `json:"metadata,omitempty"`
}

func (k *Keeper) sealAnswer(id, requestID string, answer journaled) secret.Sealed {
	plaintext, _ := json.Marshal(answer) // strings, numbers, bytes and a time
	return k.cfg.Keys.Seal(secret.AnswerSeal, plaintext, answerOf(id, requestID))
}

func (k *Keeper) openAnswer(id, requestID string, sealed secret.Sealed) (journaled, error) {
	var answer journaled
	plaintext, err := k.cfg.Keys.Open(secret.AnswerSeal, sealed, answerOf(id, requestID))
	if err == nil {
		err = json.Unmarshal(plaintext, &answer)
	}
	if err != nil {
		return answer, fmt.Errorf("answer in the journal of connection %s: %w", id, err)
	}
	return answer, nil
}
