//go:build !linux

package mariatest

import "syscall"

// leave does nothing: there is no such signal here, and a server outlives a test
// process that is killed.
func leave(*syscall.SysProcAttr) {}
