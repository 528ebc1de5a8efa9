package secret

// Sealed is data that a numbered key of a [Ring] sealed. It is what stores keep.
// The zero value is nothing.
type Sealed struct {
	KeyID uint32
	Data  []byte // nonce, ciphertext and tag, as Key.Seal gives them
}

// Empty reports whether nothing was sealed.
func (s Sealed) Empty() bool { return len(s.Data) == 0 }

// Seal seals plaintext under the current key. associated names the row that the
// result is for, so that it opens nowhere else.
func (r *Ring) Seal(p Purpose, plaintext, associated []byte) Sealed {
	key := r.Current()
	return Sealed{key.ID, key.Seal(p, plaintext, associated)}
}

// Open reverses Seal, with whatever key it was done. The error is ErrUnknownKey
// where that key was deleted, and ErrSealed where the data or what is
// associated with it is another.
func (r *Ring) Open(p Purpose, s Sealed, associated []byte) ([]byte, error) {
	key, err := r.Key(s.KeyID)
	if err != nil {
		return nil, err
	}
	return key.Open(p, s.Data, associated)
}
