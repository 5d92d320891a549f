import io.pyroscope.http.Format;
import io.pyroscope.javaagent.EventType;
import io.pyroscope.javaagent.PyroscopeAgent;
import io.pyroscope.javaagent.config.Config;
import io.pyroscope.labels.v2.LabelsSet;
import io.pyroscope.labels.v2.Pyroscope;
import java.time.Duration;
import java.util.Map;

/** Profiles a busy function with the Java SDK: {@code Busy <server> <service> <seconds>}. */
public final class Busy {
    private static volatile long sink;

    private static void busyJava(long until) {
        long sum = 0;
        while (System.nanoTime() < until) {
            for (int i = 0; i < 1_000_000; i++) {
                sum = sum * 31 + i;
            }
        }
        sink = sum;
    }

    public static void main(String[] arguments) throws InterruptedException {
        PyroscopeAgent.start(
            new Config.Builder()
                .setServerAddress(arguments[0])
                .setApplicationName(arguments[1])
                .setLabels(Map.of("region", "test"))
                .setProfilingEvent(EventType.ITIMER)
                .setUploadInterval(Duration.ofSeconds(5))
                .setFormat(Format.JFR)
                .build());
        long seconds = Long.parseLong(arguments[2]);
        long until = System.nanoTime() + seconds * 1_000_000_000L;
        Pyroscope.LabelsWrapper.run(new LabelsSet("worker", "first"), () -> busyJava(until));
        // The last interval is uploaded when it is over.
        Thread.sleep(6_000);
        System.exit(0);
    }
}
