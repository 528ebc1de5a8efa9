package secret_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/evergrant/evergrant/secret"
)

// TestSealedOutlivesRotation holds that what a key sealed opens after the next
// key has taken over, for its own row only, and no more once its key is gone.
func TestSealedOutlivesRotation(t *testing.T) {
	ring := openRing(t, secret.NewRoot(), openStore(t, ""))
	plaintext, row := []byte("tokens"), []byte("connection/7")
	first := ring.Seal(secret.TokenSeal, plaintext, row)
	if first.KeyID != 1 || first.Empty() || bytes.Contains(first.Data, plaintext) {
		t.Fatalf("sealed as %+v", first)
	}
	if _, err := ring.Rotate(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	second := ring.Seal(secret.TokenSeal, plaintext, row)
	if second.KeyID != 2 {
		t.Errorf("the new key is not used: key %d", second.KeyID)
	}
	for _, sealed := range []secret.Sealed{first, second} {
		if got, err := ring.Open(secret.TokenSeal, sealed, row); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("key %d: opened %q, %v", sealed.KeyID, got, err)
		}
	}
	refused := []struct {
		name    string
		purpose secret.Purpose
		sealed  secret.Sealed
		row     string
		want    error
	}{
		{"another row", secret.TokenSeal, first, "connection/8", secret.ErrSealed},
		{"another purpose", secret.AnswerSeal, first, "connection/7", secret.ErrSealed},
		{"another key", secret.TokenSeal, secret.Sealed{KeyID: 2, Data: first.Data}, "connection/7", secret.ErrSealed},
		{"nothing", secret.TokenSeal, secret.Sealed{KeyID: 1}, "connection/7", secret.ErrSealed},
	}
	for _, tt := range refused {
		if got, err := ring.Open(tt.purpose, tt.sealed, []byte(tt.row)); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: opened %q, %v", tt.name, got, err)
		}
	}
	if err := ring.Delete(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open(secret.TokenSeal, first, row); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("the key is deleted, and opening says %v", err)
	}
	if !(secret.Sealed{}).Empty() {
		t.Error("the zero value is not empty")
	}
}
