package secret_test

import (
	"encoding/json"
	"fmt"

	"github.com/evergrant/evergrant/secret"
)

func ExampleText() {
	type account struct {
		Name     string
		Password secret.Text
	}
	var a account
	if err := json.Unmarshal([]byte(`{"Name": "bshaffer", "Password": "brent123"}`), &a); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%+v\n", a)
	again, err := json.Marshal(a)
	fmt.Println(string(again), err)
	fmt.Println(a.Password.Equal("brent123"), len(a.Password.Reveal()))
	// Output:
	// {Name:bshaffer Password:[redacted]}
	// {"Name":"bshaffer","Password":"[redacted]"} <nil>
	// true 8
}

func ExampleVerifier() {
	generated := secret.NewSecret() // shown to the client's developer once
	verifier := secret.NewVerifier(generated)

	fmt.Println(verifier)
	fmt.Println(verifier.Verify(generated))
	fmt.Println(verifier.Verify(secret.NewSecret()))
	// Output:
	// hmac-sha256 verifier
	// true
	// false
}
