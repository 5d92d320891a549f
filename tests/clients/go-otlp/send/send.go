// Package send keeps one function busy under Go's own CPU profiler and sends what it took as OTLP over
// gRPC, in the newest version of the message.
package send

import (
	"bytes"
	"context"
	"log"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/google/pprof/profile"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
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

// taken is a CPU profile of the time until end.
func taken(end time.Time) (*profile.Profile, error) {
	var out bytes.Buffer
	if err := pprof.StartCPUProfile(&out); err != nil {
		return nil, err
	}
	for time.Now().Before(end) {
		sink += busyGo(1_000_000)
	}
	pprof.StopCPUProfile()
	return profile.Parse(&out)
}

type tables struct {
	dictionary pprofile.ProfilesDictionary
	strings    map[string]int32
}

func (t *tables) text(text string) int32 {
	if at, known := t.strings[text]; known {
		return at
	}
	at := int32(t.dictionary.StringTable().Len())
	t.dictionary.StringTable().Append(text)
	t.strings[text] = at
	return at
}

// export says the same as the pprof.
func export(source *profile.Profile, service string) pprofile.Profiles {
	profiles := pprofile.NewProfiles()
	dictionary := profiles.Dictionary()
	t := &tables{dictionary: dictionary, strings: map[string]int32{}}
	t.text("")
	dictionary.MappingTable().AppendEmpty()
	dictionary.LocationTable().AppendEmpty()
	dictionary.FunctionTable().AppendEmpty()
	dictionary.LinkTable().AppendEmpty()
	dictionary.AttributeTable().AppendEmpty()
	dictionary.StackTable().AppendEmpty()

	functions := map[uint64]int32{}
	for _, from := range source.Function {
		functions[from.ID] = int32(dictionary.FunctionTable().Len())
		to := dictionary.FunctionTable().AppendEmpty()
		to.SetNameStrindex(t.text(from.Name))
		to.SetFilenameStrindex(t.text(from.Filename))
	}
	locations := map[uint64]int32{}
	for _, from := range source.Location {
		locations[from.ID] = int32(dictionary.LocationTable().Len())
		to := dictionary.LocationTable().AppendEmpty()
		to.SetAddress(from.Address)
		for _, line := range from.Line {
			added := to.Lines().AppendEmpty()
			added.SetFunctionIndex(functions[line.Function.ID])
			added.SetLine(line.Line)
		}
	}

	resource := profiles.ResourceProfiles().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", service)
	resource.Resource().Attributes().PutStr("region", "test")
	scope := resource.ScopeProfiles().AppendEmpty()
	scope.Scope().SetName("busy")
	out := scope.Profiles().AppendEmpty()
	out.SampleType().SetTypeStrindex(t.text("samples"))
	out.SampleType().SetUnitStrindex(t.text("count"))
	out.PeriodType().SetTypeStrindex(t.text("cpu"))
	out.PeriodType().SetUnitStrindex(t.text("nanoseconds"))
	out.SetPeriod(source.Period)
	out.SetTime(pcommon.Timestamp(source.TimeNanos))
	out.SetDurationNano(uint64(source.DurationNanos))
	for _, from := range source.Sample {
		stack := int32(dictionary.StackTable().Len())
		frames := dictionary.StackTable().AppendEmpty().LocationIndices()
		for _, location := range from.Location {
			frames.Append(locations[location.ID])
		}
		to := out.Samples().AppendEmpty()
		to.SetStackIndex(stack)
		to.Values().Append(from.Value[0])
	}
	return profiles
}

// Run is busy for that long and sends one profile of it.
func Run(server, service string, seconds int) error {
	source, err := taken(time.Now().Add(time.Duration(seconds) * time.Second))
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		strings.TrimPrefix(server, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	request := pprofileotlp.NewExportRequestFromProfiles(export(source, service))
	answer, err := pprofileotlp.NewGRPCClient(connection).Export(context.Background(), request)
	if err != nil {
		return err
	}
	log.Printf("rejected %d: %s", answer.PartialSuccess().RejectedProfiles(), answer.PartialSuccess().ErrorMessage())
	return nil
}
