package mariatest

import "syscall"

// leave makes the kernel kill a child when the thread ends that started it
// (prctl(2), PR_SET_PDEATHSIG).
func leave(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
