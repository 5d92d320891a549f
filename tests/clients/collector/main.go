// An OpenTelemetry Collector that passes profiles of a busy function on, half of the time by its
// exporter for gRPC, as SERVICE-grpc, and half by that for HTTP, as SERVICE-http:
// collector SERVER_URL SERVICE SECONDS.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"

	"scoria/tests/clients/go-otlp/send"
)

// A receiver and an exporter for each way.
const config = `
receivers:
  otlp/grpc: {protocols: {grpc: {endpoint: "%s"}}}
  otlp/http: {protocols: {grpc: {endpoint: "%s"}}}
exporters:
  otlp_grpc: {endpoint: "%s", tls: {insecure: true}}
  otlp_http: {endpoint: "%s", profiles_endpoint: "%s/v1development/profiles"}
service:
  pipelines:
    profiles/grpc: {receivers: [otlp/grpc], exporters: [otlp_grpc]}
    profiles/http: {receivers: [otlp/http], exporters: [otlp_http]}
`

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](
		otlpexporter.NewFactory(), otlphttpexporter.NewFactory())
	// It says nothing of itself: half of its build time would go into that.
	silent := telemetry.NewFactory(func() component.Config { return &struct{}{} })
	return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: silent}, err
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func run(server, service string, seconds int) error {
	if err := featuregate.GlobalRegistry().Set("service.profilesSupport", true); err != nil {
		return err
	}
	byGRPC, err := freeAddress()
	if err != nil {
		return err
	}
	byHTTP, err := freeAddress()
	if err != nil {
		return err
	}
	host := strings.TrimPrefix(server, "http://")
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "test"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"yaml:" + fmt.Sprintf(config, byGRPC, byHTTP, host, server, server)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	}
	collector, err := otelcol.NewCollector(settings)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- collector.Run(context.Background()) }()
	for collector.GetState() != otelcol.StateRunning {
		select {
		case err := <-ended:
			return fmt.Errorf("the collector ended at once: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := send.Run(byGRPC, service+"-grpc", seconds/2); err != nil {
		return err
	}
	if err := send.Run(byHTTP, service+"-http", seconds/2); err != nil {
		return err
	}
	// Sends what is in its queues first.
	collector.Shutdown()
	return <-ended
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: collector SERVER_URL SERVICE SECONDS")
	}
	seconds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(os.Args[1], os.Args[2], seconds); err != nil {
		log.Fatal(err)
	}
}
