//go:build !cgo

package main

import "errors"

func openMattn(string) (engine, error) {
	return nil, errors.New("mattn/go-sqlite3 needs cgo and a C compiler; leave it out with -drivers")
}
