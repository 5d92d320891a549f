// Keeps one function busy under the Go SDK: busy SERVER_URL SERVICE SECONDS.
package main

import (
	"log"
	"os"
	"strconv"
	"time"

	"github.com/grafana/pyroscope-go"
)

var sink uint64

//go:noinline
func busyGo(rounds uint64) uint64 {
	total := uint64(0)
	for n := uint64(0); n < rounds; n++ {
		total = (total*31 + n) % 1_000_003
	}
	return total
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: busy SERVER_URL SERVICE SECONDS")
	}
	seconds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	profiler, err := pyroscope.Start(pyroscope.Config{
		ApplicationName: os.Args[2],
		ServerAddress:   os.Args[1],
		Tags:            map[string]string{"region": "test"},
		Logger:          pyroscope.StandardLogger,
	})
	if err != nil {
		log.Fatal(err)
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for time.Now().Before(end) {
		sink += busyGo(1_000_000)
	}
	if err := profiler.Stop(); err != nil {
		log.Fatal(err)
	}
}
