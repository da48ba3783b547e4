package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd is a single-member etcd on plain HTTP, reachable from its own network namespace alone. It
// never calls fsync: a lab's data need not outlive the machine's power.
func runEtcd() {
	dataDir := flag.String("data-dir", "", "folder for the data")
	client := flag.String("listen-client-url", "http://127.0.0.1:2379", "URL for clients")
	peer := flag.String("listen-peer-url", "http://127.0.0.1:2380", "URL for peers (there are none)")
	flag.Parse()

	config := embed.NewConfig()
	config.Dir = *dataDir
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true
	clientURL, peerURL := mustParse(*client), mustParse(*peer)
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clientURL}, []url.URL{clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peerURL}, []url.URL{peerURL}
	config.InitialCluster = config.InitialClusterFromName(config.Name)

	server, err := embed.StartEtcd(config)
	if err != nil {
		fail("start etcd", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-signals:
		server.Close()
	case err := <-server.Err():
		fail("etcd", err)
	}
}

// writeSigningKey makes the key that signs service-account tokens: `signing-key FILE`.
func writeSigningKey() {
	if len(os.Args) != 2 {
		fail("signing-key", fmt.Errorf("wants one argument: the file to write"))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		fail("generate key", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		fail("encode key", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(os.Args[1], block, 0o600); err != nil {
		fail("write key", err)
	}
}

func mustParse(text string) url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		fail("parse URL", err)
	}
	return *parsed
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}
