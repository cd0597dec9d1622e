// Command oidc is a certified OpenID Connect provider (zitadel/oidc) with its example's people and pages, on loopback, for the gateway's tests.
// It runs as `oidc ADDRESS REDIRECT-URI`; the client is "web" with the secret "secret", the person "test-user@localhost" with "verysecure".
package main

import (
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" { // scripts/engines asks whether this file is whole
		return
	}
	if len(os.Args) != 3 {
		log.Fatal("usage: oidc ADDRESS REDIRECT-URI")
	}
	address, issuer := os.Args[1], "http://"+os.Args[1]+"/"
	storage.RegisterClients(storage.WebClient("web", "secret", os.Args[2]))
	people := storage.NewStorage(storage.NewUserStore(issuer))
	log.Fatal(http.ListenAndServe(address, exampleop.SetupServer(issuer, people, slog.Default(), false)))
}
