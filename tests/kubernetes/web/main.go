// Command web is the backend behind the lab's Services: it answers every request with one line that
// says which pod on which node answered, so that a test can tell them apart.
//
// GET /bytes?n=N sends N bytes instead, for measuring throughput.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()

	host, _ := os.Hostname()
	node := os.Getenv("NODE_NAME")
	listen := os.Getenv("LISTEN")
	if listen == "" {
		listen = ":8080"
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "pod=%s node=%s from=%s\n", host, node, r.RemoteAddr)
	})
	http.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		left, _ := strconv.Atoi(r.URL.Query().Get("n"))
		for chunk := make([]byte, 64<<10); left > 0; left -= len(chunk) {
			if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
				return
			}
		}
	})
	if err := http.ListenAndServe(listen, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
