// Command pause holds namespaces open and reaps orphans. As a pod's sandbox it waits to be told to end.
//
// With -until-eof it is the first process of one of the lab's machines: it says "ready" once it runs and
// ends when its standard input does, which is when the lab's owner is gone, however that came to be. The
// kernel then ends everything else in its PID namespace.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	if len(os.Args) == 2 && os.Args[1] == "-until-eof" {
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		signal.Notify(signals, syscall.SIGCHLD)
		fmt.Println("ready")
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	} else {
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	}
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
