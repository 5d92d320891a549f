// Sends a profile of a busy function as OTLP: busy SERVER_URL SERVICE SECONDS.
package main

import (
	"log"
	"os"
	"strconv"

	"scoria/tests/clients/go-otlp/send"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: busy SERVER_URL SERVICE SECONDS")
	}
	seconds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := send.Run(os.Args[1], os.Args[2], seconds); err != nil {
		log.Fatal(err)
	}
}
